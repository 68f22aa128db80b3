"""The rows of the inbox's index: how an arrival is written, read, and counted for its study."""

import sqlite3
from dataclasses import replace
from pathlib import PurePosixPath

import structlog

from node.arrival import Arrival, Identity, Pass
from node.storage.database import decode_time, encode_time

log = structlog.get_logger(__name__)

CT_IMAGE_STORAGE = frozenset(
    {"1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}
)
"""CT, Enhanced CT, Legacy Converted Enhanced CT Image Storage (PS3.4 B.5): what opens a job."""


def insert_arrival(connection: sqlite3.Connection, arrival: Arrival) -> None:
    """Adds an object to the index, flags a conflict of content, and counts it for its study when it is assessable."""
    identity = arrival.identity
    others = connection.execute(
        "SELECT 1 FROM instance WHERE sop_instance_uid = ? AND content_sha256 <> ?",
        (identity.sop_instance_uid, arrival.content_sha256),
    ).fetchone()
    inserted = connection.execute(
        "INSERT OR IGNORE INTO instance (sop_instance_uid, content_sha256, study_instance_uid, series_instance_uid, "
        "sop_class_uid, transfer_syntax_uid, modality, acquisition, position_mm, frames, ours, conflict, path, "
        "size_bytes, calling_ae_title, address, received_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            identity.sop_instance_uid,
            arrival.content_sha256,
            identity.study_instance_uid,
            identity.series_instance_uid,
            identity.sop_class_uid,
            arrival.transfer_syntax_uid,
            identity.modality,
            identity.acquisition,
            identity.position_mm,
            identity.frames,
            identity.ours,
            others is not None,
            str(arrival.path),
            arrival.size_bytes,
            arrival.calling_ae_title,
            arrival.address,
            encode_time(arrival.received_at),
        ),
    ).rowcount
    if not inserted:
        return
    if others is not None:
        connection.execute(
            "UPDATE instance SET conflict = 1 WHERE sop_instance_uid = ?", (identity.sop_instance_uid,)
        )
        log.warning(
            "an object came again with other content; both are kept",
            study=identity.study_instance_uid,
            instance=identity.sop_instance_uid,
        )
    if identity.sop_class_uid in CT_IMAGE_STORAGE and not identity.ours:
        connection.execute(
            "INSERT INTO study (study_instance_uid, images, last_received_at) VALUES (?, 1, ?) "
            "ON CONFLICT (study_instance_uid) DO UPDATE SET images = images + 1, "
            "last_received_at = max(last_received_at, excluded.last_received_at)",
            (identity.study_instance_uid, encode_time(arrival.received_at)),
        )


def read_passes(connection: sqlite3.Connection, study_instance_uid: str) -> tuple[Pass, ...]:
    """Returns the CT passes of a study as they are known now."""
    groups: dict[tuple[str, str], tuple[int, set[float]]] = {}
    for row in connection.execute(
        "SELECT series_instance_uid, acquisition, frames, position_mm FROM instance "
        "WHERE study_instance_uid = ? AND ours = 0 AND sop_class_uid IN (?, ?, ?)",
        (study_instance_uid, *sorted(CT_IMAGE_STORAGE)),
    ):
        key = (row["series_instance_uid"], row["acquisition"])
        images, positions = groups.get(key, (0, set()))
        if row["position_mm"] is not None:
            positions.add(row["position_mm"])
        groups[key] = (images + row["frames"], positions)
    return tuple(
        Pass(
            series_instance_uid=series,
            acquisition=acquisition,
            images=images,
            positions_mm=tuple(sorted(positions)),
        )
        for (series, acquisition), (images, positions) in sorted(groups.items())
    )


def decode_arrival(row: sqlite3.Row) -> Arrival:
    """Returns a row of the index as a record."""
    identity = Identity(
        sop_class_uid=row["sop_class_uid"],
        sop_instance_uid=row["sop_instance_uid"],
        study_instance_uid=row["study_instance_uid"],
        series_instance_uid=row["series_instance_uid"],
        modality=row["modality"],
        acquisition=row["acquisition"],
        position_mm=row["position_mm"],
        frames=row["frames"],
        ours=bool(row["ours"]),
    )
    return replace(
        Arrival(
            identity=identity,
            transfer_syntax_uid=row["transfer_syntax_uid"],
            content_sha256=row["content_sha256"],
            path=PurePosixPath(row["path"]),
            size_bytes=row["size_bytes"],
            received_at=decode_time(row["received_at"]),
        ),
        calling_ae_title=row["calling_ae_title"],
        address=row["address"],
        conflict=bool(row["conflict"]),
    )
