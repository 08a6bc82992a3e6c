"""The parts that the dashboards are put together from, as Grafana's foundation SDK has them.

Each function makes one kind of panel with the conventions that all share: a data source variable, a unit, a
description, tables that can be filtered. ``dashboards.py`` says which panels there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from grafana_foundation_sdk.builders import bargauge, common, dashboard, logs, loki, prometheus, stat, table
from grafana_foundation_sdk.builders import timeseries as timeseries_builders
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import loki as loki_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

PROMETHEUS: Final = models.DataSourceRef(type_val="prometheus", uid="${prometheus}")
LOKI: Final = models.DataSourceRef(type_val="loki", uid="${loki}")
MAX_ROWS: Final = 500
"""Log records that a table asks for."""

Target = prometheus.Dataquery | loki.Dataquery
Panel = Any  # The builders of the panel types have no common type.
Names = Mapping[str, str]


def prom(expression: str, legend: str = "__auto", ref: str = "A") -> prometheus.Dataquery:
    """Return an instant PromQL query, whose result is a table."""
    query = prometheus.Dataquery().expr(expression).ref_id(ref).legend_format(legend).datasource(PROMETHEUS)
    return query.instant().format(prometheus_models.PromQueryFormat.TABLE)


def prom_value(expression: str, legend: str = "__auto") -> prometheus.Dataquery:
    """Return an instant PromQL query of single values."""
    return prom(expression, legend).format(prometheus_models.PromQueryFormat.TIME_SERIES)


def prom_range(
    expression: str, legend: str, ref: str = "A", *, exemplars: bool = False
) -> prometheus.Dataquery:
    """Return a PromQL query over time."""
    query = prometheus.Dataquery().expr(expression).ref_id(ref).legend_format(legend).datasource(PROMETHEUS)
    return query.range().exemplar(exemplars).format(prometheus_models.PromQueryFormat.TIME_SERIES)


def records(expression: str, *, earliest: bool = False, ref: str = "A") -> loki.Dataquery:
    """Return a LogQL query of records; where there are too many, the latest of them, or the earliest."""
    direction = loki_models.LokiQueryDirection
    return (
        loki.Dataquery()
        .expr(expression)
        .ref_id(ref)
        .datasource(LOKI)
        .query_type("range")
        .max_lines(MAX_ROWS)
        .direction(direction.FORWARD if earliest else direction.BACKWARD)
    )


def counted(expression: str, legend: str = "", *, over_time: bool, ref: str = "A") -> loki.Dataquery:
    """Return a LogQL query of numbers."""
    query = loki.Dataquery().expr(expression).ref_id(ref).datasource(LOKI).legend_format(legend)
    return query.query_type("range" if over_time else "instant")


def thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    """Return colours from given values on."""
    built = [models.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(built)


QUIET: Final = ((None, "text"),)
BAD_FROM_ONE: Final = ((None, "green"), (1, "red"))
WARN_FROM_ONE: Final = ((None, "green"), (1, "orange"))
GOOD_SHARE: Final = ((None, "red"), (0.9, "orange"), (0.98, "green"))


def explore(datasource: str, kind: str, query: Mapping[str, str]) -> str:
    """Return the address at which Explore shows what a data source has for a query."""
    uid = f"${{{datasource}}}"
    target = {"refId": "A", "datasource": {"type": kind, "uid": uid}, **query}
    pane = {"datasource": uid, "queries": [target], "range": {"from": "${__from}", "to": "${__to}"}}
    panes = quote(json.dumps({"trace": pane}, separators=(",", ":")), safe="${}:.")
    return f"/explore?schemaVersion=1&panes={panes}"


def link(title: str, url: str, *, new_tab: bool = False) -> dict[str, object]:
    """Return a link on a value."""
    return {"title": title, "url": url, "targetBlank": new_tab}


def trace_links() -> list[dict[str, object]]:
    """Return the links from a trace id to the trace, in either of the two kinds of backend."""
    value = "${__value.raw}"
    tempo = {"queryType": "traceql", "query": value}
    return [
        link("Trace in Tempo", explore("tempo", "tempo", tempo), new_tab=True),
        link("Trace in Jaeger", explore("jaeger", "jaeger", {"query": value}), new_tab=True),
    ]


def prop(name: str, value: object) -> models.DynamicConfigValue:
    """Return a setting of a field."""
    return models.DynamicConfigValue(id_val=name, value=value)


def states(names: Mapping[str, tuple[str, str]]) -> list[models.ValueMapping]:
    """Return the words and colours that values stand for."""
    options = {
        value: models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(names.items())
    }
    return [models.ValueMap(options=options)]


COLORED: Final = prop("custom.cellOptions", {"type": "color-text"})


def stat_panel(
    title: str,
    description: str,
    target: Target,
    *,
    unit: str = "short",
    steps: Sequence[tuple[float | None, str]] = QUIET,
    empty: str = "0",
    decimals: int | None = None,
) -> Panel:
    """Return a panel of one number."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(LOKI if isinstance(target, loki.Dataquery) else PROMETHEUS)
        .with_target(target)
        .thresholds(thresholds(*steps))
        .no_value(empty)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    )
    return panel if decimals is None else panel.decimals(decimals)


def table_panel(title: str, description: str, *targets: Target, empty: str, sort: str, desc: bool) -> Panel:
    """Return a table whose columns can be filtered, and that has pages."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .unit("short")
        .datasource(LOKI if isinstance(targets[0], loki.Dataquery) else PROMETHEUS)
        .filterable(True)
        .no_value(empty)
        .cell_height(common_models.TableCellHeight.SM)
        .footer(common.TableFooterOptions().show(False).reducer([]).enable_pagination(True))
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(desc)])
    )
    for target in targets:
        panel.with_target(target)
    return panel


def columns(panel: Panel, names: Names, *, hidden: Sequence[str] = ("Time",)) -> Panel:
    """Put the results of several queries together, one row each, and name the columns in this order."""
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    return _organize(panel, names, hidden)


def record_columns(panel: Panel, names: Names) -> Panel:
    """Make columns of the time, the text (``Line``) and the attributes of records, in this order."""
    extract = {"source": "labels", "format": "auto", "keepTime": False, "replace": False}
    keep = {"include": {"names": list(names)}}
    panel.with_transformation(models.DataTransformerConfig(id_val="extractFields", options=extract))
    panel.with_transformation(models.DataTransformerConfig(id_val="filterFieldsByName", options=keep))
    return _organize(panel, names, ())


def _organize(panel: Panel, names: Names, hidden: Sequence[str]) -> Panel:
    options = {
        "excludeByName": dict.fromkeys(hidden, True),
        "indexByName": {name: index for index, name in enumerate(names)},
        "renameByName": {name: shown for name, shown in names.items() if name != shown},
    }
    return panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=options))


def graph_panel(
    title: str,
    description: str,
    *targets: Target,
    unit: str = "short",
    bars: bool = False,
    points: bool = False,
    step: bool = False,
    interval: str = "",
) -> Panel:
    """Return a panel over time."""
    panel = (
        timeseries_builders.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .min(0)
        .datasource(LOKI if isinstance(targets[0], loki.Dataquery) else PROMETHEUS)
        .fill_opacity(60 if bars else 8)
        .line_width(1)
        .show_points(common_models.VisibilityMode.ALWAYS if points else common_models.VisibilityMode.AUTO)
        .span_nulls(points)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs([])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    if bars:
        panel.draw_style(common_models.GraphDrawStyle.BARS)
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if step:
        panel.line_interpolation(common_models.LineInterpolation.STEP_AFTER)
    if interval:
        panel.interval(interval)
    for target in targets:
        panel.with_target(target)
    return panel


def ranking_panel(
    title: str,
    description: str,
    target: Target,
    *,
    unit: str = "short",
    steps: Sequence[tuple[float | None, str]] = QUIET,
    empty: str = "none",
) -> Panel:
    """Return bars, one for each of the few that a query names."""
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .min(0)
        .datasource(PROMETHEUS)
        .with_target(target)
        .thresholds(thresholds(*steps))
        .no_value(empty)
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    )


def logs_panel(title: str, description: str, target: loki.Dataquery) -> Panel:
    """Return the records themselves, the earliest on top."""
    return (
        logs.Panel()
        .title(title)
        .description(description)
        .unit("short")
        .datasource(LOKI)
        .with_target(target)
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(common_models.LogsSortOrder.ASCENDING)
        .dedup_strategy(common_models.LogsDedupStrategy.NONE)
    )


def datasource_variable(name: str, label: str, kind: str) -> dashboard.DatasourceVariable:
    """Return the choice of a data source; the one that the repository provisions is chosen at first."""
    current = models.VariableOption(text=kind, value=kind, selected=True)
    return dashboard.DatasourceVariable(name).label(label).type(kind).current(current)


def choice(
    name: str, label: str, description: str, query: str, *, several: bool, all_value: str | None = ".*"
) -> dashboard.QueryVariable:
    """Return a variable whose values are those of a label in the time range.

    ``all_value`` keeps a query short where a thousand values are chosen; without it they are all named.
    """
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(PROMETHEUS)
        .query({"qryType": 1, "query": query, "refId": name})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    if several:
        everything = models.VariableOption(text=["All"], value=["$__all"], selected=True)
        variable.multi(True).include_all(True).current(everything)
        if all_value is not None:
            variable.all_value(all_value)
    return variable
