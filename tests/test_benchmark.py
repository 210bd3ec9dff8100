import importlib.util
import json
import runpy
import sys
import time
from pathlib import Path

import pytest
import torch

from fg_plugin.benchmark.environment import cpu_model, environment
from fg_plugin.benchmark.geometries import Geometry, Setting, settings
from fg_plugin.benchmark.layer_benchmark import MODES, hopeless_paths, measure_memory, measure_times
from fg_plugin.benchmark.memory import peak_bytes
from fg_plugin.benchmark.model_benchmark import ModelMeasurement, ModelSetting, hopeless_networks
from fg_plugin.benchmark.model_report import to_markdown as to_model_markdown
from fg_plugin.benchmark.networks import NETWORKS
from fg_plugin.benchmark.report import to_json, to_markdown
from fg_plugin.benchmark.result_files import write_results
from fg_plugin.benchmark.timing import CLOCKS, MIN_ROUNDS, Timing, interleaved_times
from fg_plugin.benchmark.variants import calls, compare
from fg_plugin.benchmark.verdict import judge, ratios, wins
from fg_plugin.generated_model import GeneratedModel
from fg_plugin.layers.compute_paths import PATHS
from fg_plugin.layers.routed_cond_conv import RoutedCondConv

DENSE = Setting(Geometry('dense', 4, 8, 3, 2, 1, 6), 2, channels_last=True)
DEPTHWISE = Setting(Geometry('depthwise', 16, 16, 3, 1, 16, 6), 2, channels_last=False)
HEADS = ('full', 'quarter', 'lowrank')


def timing(median, spread=0.0):
    return Timing(median, (median - spread, median + spread), 5)


class TestVariants:
    def test_every_alternative_is_there(self):
        expected = {'conv', 'condconv'}
        expected |= {f'{head}/{what}' for head in HEADS for what in (*PATHS, 'shared', 'layer')}
        comparison = compare(DENSE)
        assert set(comparison.variants) == expected
        assert not comparison.skipped
        assert all(comparison.chosen[head][mode] in PATHS for head in HEADS for mode in MODES)

    def test_paths_agree_and_have_the_shape_of_the_convolution(self):
        comparison = compare(DENSE)
        outputs = {name: call() for name, call in calls(comparison, 'inference').items()}
        assert {tuple(out.shape) for out in outputs.values()} == {(2, 8, 3, 3)}
        assert not any(out.requires_grad for out in outputs.values())
        for head in HEADS:
            for path in PATHS:
                torch.testing.assert_close(outputs[f'{head}/{path}'], outputs[f'{head}/layer'], rtol=1e-4, atol=1e-4)

    def test_training_gives_every_gradient(self):
        comparison = compare(DENSE)
        for name, call in calls(comparison, 'training').items():
            gradients = call()
            assert len(gradients) == 1 + len(comparison.variants[name].leaves)
            assert all(gradient is not None for gradient in gradients)

    def test_leaves_out_the_factored_path_of_depthwise_layers(self):
        comparison = compare(DEPTHWISE)
        assert comparison.skipped == {
            'full/factored': '16 times the multiplications of nn.Conv2d',
            'lowrank/factored': '9 times the multiplications of nn.Conv2d',
        }
        assert not set(comparison.skipped) & set(comparison.variants)

    def test_settings_are_distinct(self):
        assert len(set(settings())) == len(settings())


class TestTiming:
    def test_rounds_are_interleaved(self):
        order = []
        variants = {name: lambda name=name: (order.append(name), time.sleep(2e-3)) for name in 'ab'}
        times = interleaved_times(variants, 4)
        assert ''.join(order) == 'aabb' + 'ab' * 4
        assert all(times[name].rounds == 4 for name in 'ab')
        assert all(times[name].quartiles[0] <= times[name].median <= times[name].quartiles[1] for name in 'ab')

    def test_times_are_those_of_the_clock_without_the_first_call(self, monkeypatch):
        now, seconds = [0.0], {'a': [3.0], 'b': []}

        def call(name, warm):
            now[0] += seconds[name].pop() if seconds[name] else warm

        monkeypatch.setitem(CLOCKS, 'wall', lambda: now[0])
        variants = {'a': lambda: call('a', 0.2), 'b': lambda: call('b', 0.004)}
        times = interleaved_times(variants, 5, hopeless=lambda first: {name for name in first if first[name] > 1})
        assert [times[name].median for name in 'ab'] == pytest.approx([0.2, 0.004])
        assert times['a'].rounds == times['b'].rounds == 5

    def test_a_hopeless_variant_keeps_its_first_estimate(self):
        times = interleaved_times({'a': lambda: None, 'b': lambda: None}, 5, hopeless=lambda first: {'b'} & set(first))
        assert (times['a'].rounds, times['b'].rounds) == (5, 1)
        assert (times['a'].dropped, times['b'].dropped) == (False, True)

    def test_the_time_limit_leaves_a_few_rounds(self):
        assert interleaved_times({'a': lambda: None}, 50, max_seconds=0.0)['a'].rounds == MIN_ROUNDS

    def test_a_single_round_drops_nothing(self):
        assert not interleaved_times({'a': lambda: None}, 1)['a'].dropped

    def test_hopeless_is_meant_within_a_head(self):
        seconds = {'conv': 1.0, 'full/layer': 99.0, 'full/factored': 9.0, 'full/unfolded': 2.0, 'lowrank/factored': 9.0}
        assert hopeless_paths(seconds) == {'full/factored'}


def test_peak_memory_counts_what_is_alive_together():
    mebibyte = torch.zeros(2**18)

    def call():
        first = mebibyte + 1
        second = first + 1
        del first
        return (second + 1).sum()

    assert 2 * 2**20 <= peak_bytes(call) < 2.1 * 2**20


class TestVerdict:
    times = {  # noqa: RUF012
        'conv': timing(2.0),
        'full/factored': timing(3.0),
        'full/materialised': timing(2.5),
        'full/shared': timing(1.0),
        'full/layer': timing(9.0),
        'lowrank/factored': timing(5.0, 0.5),
        'lowrank/unfolded': timing(5.4, 0.5),
    }

    def test_judges_the_chosen_path_by_the_best_path(self):
        full, lowrank = judge(self.times, {'full': 'factored', 'lowrank': 'unfolded'})
        assert (full.chosen, full.best, full.holds, full.within_spread) == ('factored', 'materialised', False, False)
        assert full.slowdown == pytest.approx(0.2)
        assert (lowrank.best, lowrank.holds, lowrank.within_spread) == ('factored', True, True)
        assert lowrank.slowdown == pytest.approx(0.08)

    def test_refuses_a_choice_that_was_not_measured(self):
        with pytest.raises(ValueError, match=r"measured, \('factored', 'materialised'\), but got 'unfolded'"):
            judge(self.times, {'full': 'unfolded'})

    def test_ratios(self):
        assert ratios(self.times)['full/materialised'] == 1.25
        assert ratios(self.times)['conv'] == 1


class TestReport:
    @pytest.fixture(scope='class')
    def measured(self):
        measurements = measure_times([DENSE, DEPTHWISE], rounds=2, max_seconds=0.0, clock='cpu')
        return {**environment(), 'clock': 'cpu'}, measurements, measure_memory([DEPTHWISE])

    def test_json_holds_everything(self, measured):
        facts, measurements, peaks = measured
        page = json.loads(json.dumps(to_json(facts, measurements, peaks)))
        assert {'cpu', 'torch', 'timm', 'threads', 'command'} <= set(page['environment'])
        assert [(m['name'], m['mode']) for m in page['measurements']] == [
            (name, mode) for name in ('dense', 'depthwise') for mode in MODES
        ]
        for measurement in page['measurements']:
            assert {'median', 'quartiles', 'rounds', 'dropped'} == set(measurement['times']['conv'])
            assert [verdict['head'] for verdict in measurement['verdicts']] == list(HEADS)
        assert all(peak['peak_bytes']['conv'] > 0 for peak in page['peak_bytes'])

    def test_markdown_is_made_of_even_tables(self, measured):
        page = to_markdown(*measured)
        assert 'dense 4>8 3x3 /2 @6' in page
        assert '## The choice of the path' in page
        tables = [block for block in page.split('\n\n') if block.startswith('|')]
        assert tables
        for table in tables:
            assert len({line.count('|') for line in table.strip().splitlines()}) == 1

    def test_counts_wins(self, measured):
        count = wins(measured[1])
        assert sum(count[path]['best'] for path in PATHS) == 2 * len(MODES) * len(HEADS)
        assert sum(count[path]['chosen'] for path in PATHS) == 2 * len(MODES) * len(HEADS)


class TestNetworks:
    @pytest.fixture(scope='class')
    def networks(self):
        return {name: build() for name, build in NETWORKS.items() if name != 'full'}

    def test_each_is_what_its_name_says(self, networks):
        count = {
            name: sum(isinstance(module, RoutedCondConv) for module in network.modules())
            for name, network in networks.items()
        }
        assert count == {'static': 0, 'SE': 0, 'CondConv': 16, 'lowrank': 0, 'quarter': 0}
        assert networks['SE'].layer4[1].se is not None
        assert [name for name in networks if isinstance(networks[name], GeneratedModel)] == ['lowrank', 'quarter']
        assert networks['quarter'].layer4[1].conv2.num_base_filters == 128

    def test_samples_of_condconv_differ_in_their_filters(self, networks):
        conv = networks['CondConv'].layer1[0].conv1
        x = torch.randn(2, 64, 8, 8)
        with torch.no_grad():
            alone, routing = conv(x[:1]), torch.sigmoid(conv.routing_fn(x.mean((2, 3))))
            filters = (routing[0] @ conv.conv.weight).view(64, 64, 3, 3)
            torch.testing.assert_close(conv(x)[:1], alone, rtol=1e-4, atol=1e-5)
            expected = torch.nn.functional.conv2d(x[:1], filters, padding=1)
            torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)

    def test_hopeless_is_meant_relative_to_the_static_network(self):
        assert hopeless_networks({'static': 1.0, 'SE': 3.9, 'CondConv': 4.1}) == {'CondConv'}


def test_the_page_of_the_models_says_where_targets_are_met():
    measurements = [
        ModelMeasurement(
            ModelSetting(1, 64, channels_last),
            mode,
            {name: timing(ratio) for name, ratio in zip(NETWORKS, (1, 1.1, 3, lowrank, 1.5, 0.5), strict=True)},
            dict(zip(NETWORKS, (100, 100, 300, 120, 140, 100), strict=True)),
        )
        for mode in MODES
        for channels_last, lowrank in ((False, 1.1), (True, 1.2))
    ]
    facts = {**environment(), 'clock': 'cpu', 'device': 'cpu', 'compiled': False}
    page = to_model_markdown(facts, dict.fromkeys(NETWORKS, 10**6), measurements)
    assert '| lowrank | training | 1.15 | 1.10 to 1.20 | 1 of 2 | 1.30 | 1.20 to 1.20 | 2 of 2 |' in page
    assert '| full | inference | 1.35 | 1.50 to 1.50 | 0 of 2 | 1.30 | 1.40 to 1.40 | 0 of 2 |' in page
    assert '| B = 1, 64 px, channels_last | 1e+03 | 1.10 | 3.00 | 1.20 | 1.50 | 0.50 |' in page
    dropped = {
        name: each._replace(rounds=1, dropped=name == 'CondConv') for name, each in measurements[0].times.items()
    }
    page = to_model_markdown(facts, dict.fromkeys(NETWORKS, 10**6), [m._replace(times=dropped) for m in measurements])
    assert '| B = 1, 64 px, channels_last | 1e+03 | 1.10 | (3.0) | 1.10 | 1.50 | 0.50 |' in page


def test_cpu_model_reads_proc_cpuinfo(tmp_path):
    path = tmp_path / 'cpuinfo'
    path.write_text('processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n')
    assert cpu_model(path) == 'Some CPU @ 2 GHz'
    assert isinstance(cpu_model(tmp_path / 'none'), str)


class TestTool:
    @pytest.fixture(scope='class')
    def tool(self):
        path = Path(__file__).parents[1] / 'tools' / 'benchmark.py'
        spec = importlib.util.spec_from_file_location('benchmark_tool', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def test_writes_both_files(self, tool, tmp_path):
        out = tmp_path / 'new' / 'layer.json'
        threads = str(torch.get_num_threads())
        options = ('--repeats', '1', '--max-seconds', '0', '--only', 'MNIST conv2', '--threads', threads)
        tool.main(['layer', '--out', str(out), *options])
        assert len(json.loads(out.read_text())['measurements']) == 8
        assert 'MNIST conv2' in out.with_suffix('.md').read_text()

    def test_measures_networks(self, tool, tmp_path, monkeypatch):
        # Their builders are tested above; the full head's 100 million parameters would take long here.
        small = {name: NETWORKS[name if name in ('SE', 'lowrank') else 'static'] for name in NETWORKS}
        monkeypatch.setattr('fg_plugin.benchmark.model_benchmark.NETWORKS', small)
        out = tmp_path / 'model.json'
        options = ('--repeats', '1', '--max-seconds', '0', '--batches', '2', '--sides', '32')
        tool.main(['model', '--out', str(out), *options, '--threads', str(torch.get_num_threads())])
        measurements = json.loads(out.read_text())['measurements']
        assert [(m['mode'], m['channels_last']) for m in measurements] == [
            (mode, channels_last) for channels_last in (False, True) for mode in MODES
        ]
        # A training step keeps the gradients of 11.7 million parameters.
        assert measurements[1]['peak_bytes']['static'] > 4 * 11.6e6 > measurements[0]['peak_bytes']['static']
        assert 'ResNet-18 with generated filters' in out.with_suffix('.md').read_text()

    def test_compiles_the_networks_that_are_named(self, tool, tmp_path, monkeypatch):
        compiled = []

        def compile_(network, **options):
            compiled.append(type(network).__name__)
            return network

        monkeypatch.setattr('torch.compile', compile_)
        out = tmp_path / 'model.json'
        options = ('--repeats', '1', '--max-seconds', '0', '--batches', '2', '--sides', '32', '--compile')
        threads = str(torch.get_num_threads())
        tool.main(['model', '--out', str(out), *options, '--networks', 'lowrank', '--threads', threads])
        result = json.loads(out.read_text())
        assert list(result['measurements'][0]['times']) == list(result['parameters']) == ['static', 'lowrank']
        assert len(compiled) == 4
        page = out.with_suffix('.md').read_text()
        assert 'compiled by `torch.compile`' in page
        assert 'full | inference' not in page

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (('--device', 'tpu'), "--device should be cpu, or cuda where torch finds a GPU, but got 'tpu'"),
            (('--sides', '64', '16'), r'--sides should be at least 32, but got \[64, 16\]'),
            (('--batches', '0'), r'--batches should be at least 1, but got \[0\]'),
        ],
    )
    def test_refuses_for_models(self, arguments, message, tool):
        with pytest.raises(SystemExit, match=message):
            tool.main(['model', *arguments])

    def test_a_gpu_that_is_not_there(self, tool, monkeypatch):
        monkeypatch.setattr('torch.cuda.device_count', lambda: 2)
        monkeypatch.setattr('torch.cuda.get_device_name', lambda device: f'name of {device}')
        assert [tool.device_name(device, 'wall') for device in ('cuda', 'cuda:1')] == ['name of cuda', 'name of cuda:1']
        with pytest.raises(ValueError, match=r"--device should be cpu, .*but got 'cuda:2'"):
            tool.device_name('cuda:2', 'wall')

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (('--repeats', '0'), '--repeats should be at least 1, but got 0'),
            (('--only', 'nothing'), "--only should be part of one of .*'depthwise'.*but got 'nothing'"),
            (('--clock', 'cpu', '--threads', '2'), '--clock cpu .* needs --threads 1, but got 2'),
        ],
    )
    def test_refuses(self, arguments, message, tool):
        with pytest.raises(SystemExit, match=message):
            tool.main(['layer', *arguments])

    @pytest.mark.parametrize('command', ['layer', 'model'])
    def test_the_output_is_no_page(self, tool, capsys, command):
        with pytest.raises(SystemExit, match='2'):
            tool.main([command, '--out', 'page.md'])
        assert 'argument --out: should be a .json file, beside which the page is written, but got page.md' in (
            capsys.readouterr().err
        )

    @pytest.mark.parametrize('command', ['layer', 'model'])
    def test_a_missing_progress_bar_names_its_extra(self, monkeypatch, command):
        for module in ('rich', 'rich.progress'):
            monkeypatch.setitem(sys.modules, module, None)
        main = runpy.run_path(str(Path(__file__).parents[1] / 'tools' / 'benchmark.py'))['main']
        message = r"needs rich, which is not installed: pip install 'fg-plugin\[analysis\]'"
        with pytest.raises(SystemExit, match=message):
            main([command])


def test_results_are_whole_or_absent(tmp_path):
    out = tmp_path / 'new' / 'results.json'
    write_results(out, '{}', 'page ±')
    assert (out.read_text(encoding='utf-8'), out.with_suffix('.md').read_text(encoding='utf-8')) == ('{}', 'page ±')
    assert sorted(path.name for path in out.parent.iterdir()) == ['results.json', 'results.md']
