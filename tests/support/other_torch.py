"""Packages of which something was renamed, for programs that launch a job by themselves."""

from __future__ import annotations

CHANGE = """
def change(*changes):
    # Each is (module, old text, new text); the module's source is changed as it is imported.
    # A module that ends with .* is all of a package in which the text is, as whole words.
    import importlib.machinery, re, sys

    def is_in(name, modules):
        return f"{name}.".startswith(modules[:-1]) if modules.endswith(".*") else name == modules

    class Changed:
        def find_spec(self, name, path=None, target=None):
            mine = [each for each in changes if is_in(name, each[0])]
            if not mine:
                return None
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if not isinstance(getattr(spec, "loader", None), importlib.machinery.SourceFileLoader):
                return None
            found = source = spec.loader.get_source(name)
            for modules, old, new in mine:
                if modules.endswith(".*"):
                    source = re.sub(rf"(?<!\\w){re.escape(old)}(?!\\w)", new, source)
                else:
                    assert old in source, (name, old)
                    source = source.replace(old, new)
            if source == found:
                return None

            def exec_module(module):
                exec(compile(source, spec.origin, "exec"), vars(module))

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Changed())
"""
ELASTIC = "torch.distributed.elastic"
EVENTS = f"{ELASTIC}.events"
HANDLERS = f"{ELASTIC}.events.handlers"
REGISTRY = f"{ELASTIC}.rendezvous.registry"
DYNAMIC = f"{ELASTIC}.rendezvous.dynamic_rendezvous"
AGENT = f"{ELASTIC}.agent.server.local_elastic_agent"
AGENT_API = f"{ELASTIC}.agent.server.api"
METRICS = f"{ELASTIC}.metrics.api"
CONTEXTS = f"{ELASTIC}.multiprocessing.api"
LAUNCHER = "torch.distributed.launcher.api"


def change(*changes: tuple[str, str, str]) -> str:
    """Return the source that makes these changes: (module, old text, new text)."""
    return f"{CHANGE}\nchange(*{list(changes)!r})\n"
