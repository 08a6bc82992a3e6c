"""A small training job on CPU, with OpenTelemetry spans of its own that hang under torchrun's worker spans.

torchrun --standalone --nproc-per-node=2 --event-log-handler=otel examples/training_loop/train.py
"""

import torch
import torch.distributed as dist
from opentelemetry import trace
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel

import torchelastic_otel

EPOCHS, STEPS = 3, 40


def train(tracer: trace.Tracer) -> None:
    """Fit a line; each worker has data of its own, and gradients are averaged."""
    torch.manual_seed(dist.get_rank())
    x = torch.rand(256, 1)
    y = 3 * x + 1 + 0.05 * torch.randn(256, 1)
    model = DistributedDataParallel(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for epoch in range(EPOCHS):
        with tracer.start_as_current_span(f"epoch {epoch}") as span:
            for _ in range(STEPS):
                loss = torch.nn.functional.mse_loss(model(x), y)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            span.set_attribute("loss", loss.item())
        if dist.get_rank() == 0:
            print(f"epoch {epoch}: loss {loss.item():.4f}", flush=True)


@record
def main() -> None:
    """Set up tracing and the process group, then train."""
    provider = torchelastic_otel.worker_tracer_provider({"service.name": "trainer"})
    torchelastic_otel.attach_worker_context()  # the worker's span is the parent of what follows
    dist.init_process_group("gloo")
    train(provider.get_tracer("training_loop"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
