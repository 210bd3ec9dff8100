# The paper leaves the optimiser and the number of epochs open. `end` is left out on purpose: MMEngine then stretches
# the cosine over train_cfg.max_epochs, whatever that is.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=1)
val_cfg = dict()
test_cfg = dict()
