from fg_plugin.sweep import values
from fg_plugin.sweep.workers import run_check


def test_a_host_that_attends_across_the_batch_keeps_its_samples_independent():
    record = run_check(values.check_values, 'csatv2')
    assert record.passed, record.failures
    assert record.facts['skipped'] == {'its SpatialTransformerBlock attends across the batch': 14}
