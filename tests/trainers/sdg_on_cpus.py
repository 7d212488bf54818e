"""`sdg`, run by `accelerate launch` on CPUs; with FSDP2 too, which `accelerate` itself sets up on accelerators only.

`accelerate` reads the whole configuration of FSDP2 on a machine without GPUs and then trains by DDP. Here its state
says FSDP, as it does on GPUs, and everything after that is its own: sharding, mixed precision, checkpoints.
"""

from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from sdg_data.cli import main


def let_cpus_shard() -> None:
    """Let `AcceleratorState` do for several CPU processes what it does for several GPUs."""
    begun = AcceleratorState.__init__

    def begin(self: Any, *args: Any, fsdp_plugin: Any = None, **kwargs: Any) -> None:
        begun(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None and self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            if self._mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self._mixed_precision)

    AcceleratorState.__init__ = begin  # type: ignore[method-assign]


if __name__ == "__main__":
    let_cpus_shard()
    main()
