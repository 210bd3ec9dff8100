import json

import pytest
import torch

from fg_plugin.studies.arms import ARMS, STUDIES, Arm, generated, static
from fg_plugin.studies.data import Images, load_data
from fg_plugin.studies.figures import PANELS, draw_costs
from fg_plugin.studies.page import NO_RESULT, data_page, load_costs, with_numbers
from fg_plugin.studies.training import Recipe, _groups, _Schedule, accuracy, normalise, train_arm, warm_recipe

RECIPE = Recipe(epochs=2, batch_size=64)


@pytest.fixture(scope='module')
def data():
    whole = load_data('digits_rotated')
    few = {
        name: Images(part.pixels[:200], part.labels[:200]) for name, part in whole._asdict().items() if name in PARTS
    }
    return whole._replace(**few)


PARTS = ('train', 'test', 'unseen')


def test_a_seed_tells_the_whole_training(data):
    (_, first), (_, again), (_, other) = (train_arm(ARMS['paper'], data, RECIPE, seed) for seed in (3, 3, 4))
    for result in (first, again):
        for epoch in result['curve']:
            del epoch['seconds']
    assert first == again
    assert first['curve'] != other['curve']
    assert first['test'] == first['curve'][-1]['test']
    assert first.keys() >= {'train', 'unseen', 'swapped', 'variance', 'recipe'}
    assert list(first['variance']) == [f'blocks.{index}.0' for index in range(4)]
    assert all(0 < value < 1 for value in first['variance'].values())
    json.dumps(first)


def test_training_images_alone_are_augmented_anew_in_each_step(data):
    seen = []

    def darkened(pixels, draws):
        factors = torch.rand(len(pixels), 1, 1, 1, generator=draws)
        seen.append(factors)
        return pixels * factors

    _, plain = train_arm(ARMS['static'], data, RECIPE, 0)
    model, result = train_arm(ARMS['static'], data._replace(augment=darkened), RECIPE, 0)
    steps = RECIPE.epochs * -(-len(data.train.labels) // RECIPE.batch_size)
    assert len({factors.sum().item() for factors in seen}) == steps
    assert result['curve'][0]['loss'] != plain['curve'][0]['loss']
    assert result['train'] == accuracy(model, data, data.train)


def test_unseen_images_count_by_kind(data):
    of_each = {'noise': torch.arange(0, 150), 'blur': torch.arange(150, 200)}
    model, result = train_arm(ARMS['static'], data._replace(unseen_kinds=of_each), RECIPE, 0)
    by_kind = result['unseen_by_kind']
    blurred = Images(data.unseen.pixels[150:], data.unseen.labels[150:])
    assert by_kind['blur'] == accuracy(model, data, blurred)
    assert result['unseen'] == pytest.approx((150 * by_kind['noise'] + 50 * by_kind['blur']) / 200)


def test_standardised_networks_generate_from_the_images_as_they_are(data):
    model = ARMS['standardised_lowrank'].build(data, static(data)).eval()
    seen = []
    model.fg_generator.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = data.test.pixels[:2]
    shown = []
    model[1].register_forward_pre_hook(lambda module, args: shown.append(args[0]))
    model(images)
    assert torch.equal(seen[0], images)
    assert torch.allclose(shown[0].mean((1, 2, 3)), torch.zeros(2), atol=1e-5)


def test_training_learns(data):
    _, result = train_arm(ARMS['static'], data, Recipe(epochs=8, batch_size=32), 0)
    assert result['train'] > 70
    assert result['curve'][-1]['loss'] < 0.7 * result['curve'][0]['loss']


def test_swapped_filters_are_those_of_the_others(data):
    model, _ = train_arm(ARMS['paper'], data, RECIPE, 0)
    pixels, others = data.test.pixels[:100], torch.arange(99, -1, -1)
    inputs = normalise(data, pixels)
    with torch.no_grad(), model.conditioned_on(inputs[others]):
        labels = model(inputs).argmax(1)
    assert accuracy(model, data, Images(pixels, labels), others) == 100
    assert accuracy(model, data, Images(pixels, labels)) < 100


def test_a_warm_start_goes_on_from_the_static_network(data):
    model, result = train_arm(ARMS['static'], data, RECIPE, 0)
    still = Arm('', lambda data, net: net, warm=True)
    _, warm = train_arm(still, data, RECIPE._replace(lr=1e-12), 0, model.state_dict())
    assert warm['recipe'] == warm_recipe(RECIPE._replace(lr=1e-12))._asdict()
    assert warm['train'] == pytest.approx(result['train'], abs=10)
    with pytest.raises(ValueError, match='needs the weights of a trained static network'):
        train_arm(still, data, RECIPE, 0)


def test_groups(data):
    arm = Arm('', generated(), head_lr=10.0, generator_lr=2.0, head_decay=False, network_lr=0.5, warm_up=0.25)
    model = arm.build(data, static(data))
    by_parameter = {
        parameter: (group['lr'], group['weight_decay'], group['warm_up'])
        for group in _groups(model, arm, RECIPE)
        for parameter in group['params']
    }
    named = dict(model.named_parameters())
    assert by_parameter.keys() == set(named.values())
    assert by_parameter[named['blocks.0.0.weight']] == (0.5 * RECIPE.lr, RECIPE.weight_decay, 0)
    assert by_parameter[named['classifier.bias']] == (0.5 * RECIPE.lr, 0, 0)
    assert by_parameter[named['blocks.0.0.coefficient_head.scale.weight']] == (10 * RECIPE.lr, 0, 0.25)
    assert by_parameter[named['fg_generator.neck.levels.0.fc.weight']] == (2 * RECIPE.lr, 0, 0.25)


def test_a_warm_up_only_lowers_the_first_rates_of_its_own_group():
    plain, warmed = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    groups = [{'params': [plain], 'lr': 1.0, 'warm_up': 0.0}, {'params': [warmed], 'lr': 1.0, 'warm_up': 0.5}]
    optimizer = torch.optim.SGD(groups)
    schedule = _Schedule(optimizer, 40)
    ratios = []
    for step in range(40):
        first, second = (group['lr'] for group in optimizer.param_groups)
        ratios.append(second / first)
        optimizer.step()
        if step < 39:
            schedule.step()
    assert ratios == pytest.approx([min(1, step / 20) for step in range(40)])


def test_an_infinite_loss_stops(data):
    with pytest.raises(FloatingPointError, match='try a smaller learning rate'):
        train_arm(ARMS['static'], data, Recipe(epochs=2, lr=1e30), 0)


def test_the_page_counts_collapsed_layers(tmp_path):
    for seed, variances in {0: [1e-2, 1e-3, 9e-5], 1: [1e-2, 2e-4, 1e-3]}.items():
        path = tmp_path / 'toy' / 'lowrank' / f'seed{seed}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        variance = dict(zip('abc', variances, strict=True))
        path.write_text(json.dumps({'test': 90.0, 'train': 99.0, 'recipe': {'epochs': 10}, 'variance': variance}))
    page = data_page(tmp_path / 'toy', {})
    assert '| collapsed |' in page
    assert '| 1, 0 of 3 |' in page


def test_the_page_compares_equal_seeds(tmp_path):
    values = {('static', 0): 90.0, ('static', 1): 94.0, ('paper', 0): 92.0, ('paper', 1): 95.0, ('paper', 2): 10.0}
    for (arm, seed), value in values.items():
        path = tmp_path / 'toy' / arm / f'seed{seed}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({'test': value, 'train': 99.0, 'swapped': 12.5, 'recipe': {'epochs': 10}}))
    page = data_page(tmp_path / 'toy', {'toy/cost': 'A remark.'})
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in page.splitlines() if line.startswith('|')]
    assert rows[0] == ['network', 'n', 'test', 'against static', 'training', 'swapped']
    assert rows[2][1:4] == ['2', '92.00 ± 2.83', '']
    # Two seeds have a static network: +2 and +1. All three count for the mean.
    assert rows[3][1:] == ['3', '65.67 ± 48.23', '+1.50 ± 0.71', '99.00 ± 0.00', '12.50 ± 0.00']
    assert page.endswith('A remark.\n')
    assert 'Trained for' not in page


def test_the_page_compares_unseen_variations(tmp_path):
    for arm, unseen in (('static', 50.0), ('paper', 53.5)):
        path = tmp_path / 'toy' / arm / 'seed0.json'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({'test': 90.0, 'unseen': unseen, 'train': 99.0, 'recipe': {'epochs': 10}}))
    page = data_page(tmp_path / 'toy', {})
    assert '| unseen | unseen, against static |' in page
    assert '| 53.50 | +3.50 |' in page


def test_remarks_take_their_numbers_from_the_results(tmp_path):
    values = {'static': (90.0, 94.0), 'paper': (92.0, 95.2), 'warm_static': (10.0, 20.0), 'warm_full': (9.953, 19.953)}
    for arm, accuracies in values.items():
        for seed, value in enumerate(accuracies):
            path = tmp_path / 'toy' / arm / f'seed{seed}.json'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({'test': value, **({'unseen': 2 * value} if seed else {})}))
    text = with_numbers('{toy/paper}, unseen {toy/paper:unseen}; {toy/warm_full} {a: b}', tmp_path)
    assert text == '+1.6 ± 0.6, unseen +2.4; +0.0 ± 0.0 {a: b}'
    assert with_numbers('{toy/se}, {toy/paper:swapped}, {others/paper}', tmp_path) == ', '.join([NO_RESULT] * 3)
    with pytest.raises(ValueError, match=r'\{toy/papr\} in the remarks should name a network of static, '):
        with_numbers('{toy/papr}', tmp_path)


def test_every_network_has_a_colour_of_its_own():
    arms = STUDIES['cost']
    costs = {arm: dict.fromkeys(PANELS, 1.0) for arm in arms}
    figure = draw_costs({'accuracy': {arm: [50.0] for arm in arms}}, costs, 'toy')
    means = [line for line in figure.axes[0].lines if line.get_label()[0] != '_']
    assert len({line.get_color() for line in means}) == len(arms)


def test_the_page_splits_unseen_images_by_kind(tmp_path):
    for seed, result in enumerate([{}, {'unseen_by_kind': {'noise': 40.0, 'blur': 60.5}}]):
        path = tmp_path / 'toy' / 'static' / f'seed{seed}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({'test': 90.0, 'unseen': 50.0, 'train': 99.0, 'recipe': {'epochs': 10}, **result}))
    page = ' '.join(data_page(tmp_path / 'toy', {'toy/kinds': 'A remark.'}).split())
    assert '#### Unseen, by kind | network | n | noise | blur |' in page
    assert page.endswith('| static network | 1 | 40.00 | 60.50 | A remark.')


def test_the_page_shows_costs_where_they_are_known(tmp_path):
    path = tmp_path / 'toy' / 'static' / 'seed0.json'
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({'test': 90.0, 'train': 99.0, 'recipe': {'epochs': 5}}))
    page = data_page(tmp_path / 'toy', {})
    assert 'MACs' not in page
    assert 'Trained for 5 epochs.' in page
    costs = {'static': {'parameters': 61_000, 'macs': 2_500_000, 'training': 1.0, 'inference': 1.0}}
    (tmp_path / 'toy' / 'costs.json').write_text(json.dumps({'arms': costs}))
    page = data_page(tmp_path / 'toy', {})
    assert '| 61,000 | 2.50 M | 1.00 | 1.00 |' in ' '.join(page.split())
    assert '](studies/toy.png)' in page
    accuracies = {'test': {'static': [90.0, 92.0], 'unmeasured': [1.0]}, 'unseen': {'static': [50.0]}}
    figure = draw_costs(accuracies, load_costs(tmp_path / 'toy'), 'toy')
    legends = [axes.get_legend().get_texts() for axes in figure.axes if axes.get_legend()]
    assert [[text.get_text() for text in texts] for texts in legends] == [
        ['static network (91.00, n = 2)'],
        ['static network (50.00, n = 1)'],
    ]
    assert [axes.get_ylabel() for axes in figure.axes] == ['test', '', '', 'unseen', '', '']
    assert {axes.get_xlabel() for axes in figure.axes} == {'', *PANELS.values()}
