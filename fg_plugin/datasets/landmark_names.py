"""The five landmarks, in the order of MTFL's annotations and of the paper's Figure 3."""

LANDMARK_NAMES = ('LE', 'RE', 'NT', 'LMC', 'RMC')
LANDMARK_DESCRIPTIONS = ('left eye', 'right eye', 'nose tip', 'left mouth corner', 'right mouth corner')
