"""Events as JSON, made by SQLite and read by msgspec.

A page of a thousand rows fetched one by one takes the interpreter lock a thousand times, and beside a busy reactor waits
for it each time.  So SQLite joins a page into one text, and one call of msgspec makes the events of it.
"""

from __future__ import annotations

from msgspec.json import Decoder

from twisted_chat.events import Event

#: The column ``kind``.
MESSAGE, EDIT, DELETE, REACTION, TOPIC = 1, 2, 3, 4, 5

_FIELDS = """json_object(
    'kind', CASE e.kind WHEN 1 THEN 'message' WHEN 2 THEN 'edit' WHEN 3 THEN 'delete' WHEN 4 THEN 'reaction' ELSE 'topic' END,
    'seq', e.seq, 'id', e.batch || '-' || e.seq, 'at', e.at,
    'by', json_object('id', e.author, 'name', e.name), 'key', e.key, 'text', e.text,
    'data', CASE WHEN e.data IS NOT NULL THEN base64(e.data) END)"""

#: A row ``e`` of table ``event`` as a JSON object.
ENTRY = f"CASE WHEN e.extra IS NULL THEN {_FIELDS} ELSE json_patch({_FIELDS}, e.extra) END"

decode_event = Decoder(Event).decode
decode_events = Decoder(list[Event]).decode


def json_array(column: str) -> str:
    """SQL for all values of a column of JSON texts as one array, in the order of the rows.

    ``json_group_array(json(…))`` would parse each of them again.
    """
    return f"'[' || coalesce(group_concat({column}), '') || ']'"
