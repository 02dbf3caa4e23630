"""The rows of benchmarks/gpu.py as Markdown tables, one a part."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

OP_COLUMNS = ("name", "n_samples", "ms", "floor_ms", "bound", "share")
OP_COLUMNS += ("reference_ms", "reference_ratio", "nerfacc_ms", "nerfacc_ratio")
TABLES = {
    "ceilings": ("name", "rate", "unit", "way"),
    "ops": OP_COLUMNS,
    "large": OP_COLUMNS,
    "step": ("name", "ms", "bare_ms", "n_samples", "n_rays"),
    "frame": ("name", "side", "ms", "worst_ms"),
    "semantic": ("name", "side", "ms"),
    "paper": ("name", "ms", "bare_ms", "semantic_ms", "projected_minutes"),
    "quality": ("name", "seconds_to_30_db", "seconds_to_35_db", "psnr", "seconds"),
}
UNTOLD = ("part", "name", "card", "curve", "what")  # in the line of a row


def tables(card: Mapping[str, Any], rows: Sequence[Row]) -> str:
    known = ", ".join(f"{name} {value}" for name, value in card.items())
    parts = [f"Measured on: {known}."]
    for part, columns in TABLES.items():
        some = [row for row in rows if row["part"] == part]
        if some:
            failed = ("failed",) if any("failed" in row for row in some) else ()
            parts.append(markdown(some, (*columns, *failed, "card")))
    return "\n\n".join(parts)


def markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(number(r.get(c)) for c in columns) + " |" for r in rows]
    return "\n".join(lines)


def line(row: Row) -> str:
    """What is printed as soon as a row is there."""
    values = (f"{name} {number(value)}" for name, value in row.items() if name not in UNTOLD)
    return f"{row['part']}, {row['name']}: " + ", ".join(values)


def number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
