"""What the generated filters of a trained model are like. Drawing needs the extra ``analysis``."""
