from fg_plugin.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from fg_plugin.hooks.channels_last_hook import ChannelsLastHook
from fg_plugin.hooks.compile_backbone_hook import CompileBackboneHook
from fg_plugin.hooks.curves_hook import CurvesHook
from fg_plugin.hooks.epoch_seed_hook import EpochSeedHook
from fg_plugin.hooks.exact_resume_hook import ExactResumeHook, ResumeError
from fg_plugin.hooks.final_metrics_hook import FinalMetricsHook
from fg_plugin.hooks.landmark_visualization_hook import LandmarkVisualizationHook
from fg_plugin.hooks.latest_checkpoint import check_began, checkpoint_place, latest_checkpoint
from fg_plugin.hooks.non_finite_loss_hook import NonFiniteLossError, NonFiniteLossHook
from fg_plugin.hooks.reconstruction_loss_hook import ReconstructionLossHook
from fg_plugin.hooks.strict_load_hook import CheckpointMismatchError, StrictLoadHook
from fg_plugin.hooks.swap_evaluation_hook import SwapEvaluationHook
from fg_plugin.hooks.throughput_hook import ThroughputHook

__all__ = [
    'AtomicCheckpointHook',
    'ChannelsLastHook',
    'CheckpointMismatchError',
    'CompileBackboneHook',
    'CurvesHook',
    'EpochSeedHook',
    'ExactResumeHook',
    'FinalMetricsHook',
    'LandmarkVisualizationHook',
    'NonFiniteLossError',
    'NonFiniteLossHook',
    'ReconstructionLossHook',
    'ResumeError',
    'StrictLoadHook',
    'SwapEvaluationHook',
    'ThroughputHook',
    'check_began',
    'checkpoint_place',
    'latest_checkpoint',
]
