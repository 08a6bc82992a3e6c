"""What of torch a recorder waits for in a worker, by name: what it hooks once the program has imported it."""

from __future__ import annotations

OPTIMIZER = "torch.optim.optimizer"
"""Its ``register_optimizer_step_post_hook`` sees each step of each optimizer."""
CHECKPOINT = "torch.distributed.checkpoint.state_dict_saver"
"""Its ``save`` and ``async_save`` write checkpoints."""
