"""Several processes must compute what one computes."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from hardattn import parallel
from hardattn.parallel import global_mean, global_sum, leave, rank_slice, world

RETURNS = torch.arange(24.0).view(2, 3, 4).square()
BASELINES = ("learned", "batch-mean", "leave-one-out")


def test_one_process_is_a_world_of_its_own():
    value = torch.ones(2, requires_grad=True)
    assert world() == (0, 1)
    for reduce in (global_sum, global_mean):
        reduced = reduce(value)
        assert torch.equal(reduced, value.detach()) and not reduced.requires_grad
        reduced += 1
    assert value.tolist() == [1.0, 1.0], "the caller's own tensor was written to"
    assert rank_slice(7) == slice(0, 7)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_shares_are_equal_and_make_up_the_batch(monkeypatch, size):
    shares: list[int] = []
    for rank in range(size):
        monkeypatch.setattr(parallel, "world", lambda rank=rank: (rank, size))
        shares += range(12)[rank_slice(12)]
    assert shares == list(range(12))


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch):
    monkeypatch.setattr(parallel, "world", lambda: (0, 4))
    with pytest.raises(ValueError, match=r"batch of 10 .* 4 processes"):
        rank_slice(10)


def gradients(global_batch: int) -> dict[str, torch.Tensor]:
    """What this process contributes: RAM's gradient with every kind of baseline, and the batch-mean baseline itself."""
    from agents.player import PlayerConfig
    from agents.ram import RAMConfig
    from envs.cue import CueConfig
    from envs.tapes.play import PlayTapeConfig
    from hardattn.estimators import batch_mean

    share = RETURNS[..., rank_slice(RETURNS.shape[-1])]
    found = {"batch-mean": batch_mean(share)}
    task = CueConfig(glimpses=3).build()
    for kind in BASELINES:
        torch.manual_seed(0)
        agent = RAMConfig(hidden=8, features=4, rollouts=2, baseline=kind, reward="log-likelihood").build(task.spec)
        agent.loss(next(task.batches("train", batch_size=global_batch, seed=1, start=2))).total.backward()
        found[f"gradient {kind}"] = torch.cat([p.grad.flatten() for p in agent.parameters()])
    # Episodes end when they like, so that one process has fewer steps than the other.
    tapes = PlayTapeConfig("Copy", top=5).build()
    torch.manual_seed(0)
    player = PlayerConfig(hidden=8, features=4, baseline="batch-mean", standardised=True).build(tapes.spec)
    played = player.act(next(tapes.batches("train", batch_size=global_batch, seed=1)))
    found["episodes"] = played.question.episodes.alive.sum(0)
    player(played).total.backward()
    found["gradient of a player"] = torch.cat([p.grad.flatten() for p in player.parameters()])
    found["moments"] = player.seen.mean
    return found


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = gradients(12)
    found = {name: global_mean(value) if name.startswith("gradient") else value for name, value in found.items()}
    found["sum"] = global_sum(torch.tensor(float(rank + 1)))
    torch.save(found, f"{folder}/{rank}.pt")
    leave()
    assert world() == (0, 1)


@pytest.mark.slow
def test_two_processes_compute_the_gradient_of_one(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)
    alone, (first, second) = gradients(12), (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    torch.testing.assert_close(torch.cat([first["batch-mean"], second["batch-mean"]], -1), alone["batch-mean"])
    assert first["sum"] == second["sum"] == 3
    assert first["episodes"].max() != second["episodes"].max()
    assert torch.equal(torch.cat([first["episodes"], second["episodes"]]), alone["episodes"])
    torch.testing.assert_close(first["moments"], alone["moments"])
    assert torch.equal(first["moments"], second["moments"])
    for name in ("gradient of a player", *(f"gradient {kind}" for kind in BASELINES)):
        assert alone[name].norm() > 1e-3
        torch.testing.assert_close(first[name], alone[name], rtol=1e-6, atol=1e-6)
        assert torch.equal(first[name], second[name])
