"""The five landmarks, in the order of MTFL's annotations and of the paper's Figure 3."""

# Left eye, right eye, nose tip, left and right mouth corner.
LANDMARK_NAMES = ('LE', 'RE', 'NT', 'LMC', 'RMC')
