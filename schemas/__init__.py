"""What the data is: frozen records and their text forms. No I/O, no heavy imports.

    geometry.py     boxes, one type per convention; IoU, DIoU
    codecs.py       outside box conventions <-> Box
    defect.py       Defect, its types, subtypes and importance tiers
    records.py      what the store holds, with lineage
    answer/         a model's `<think>…</think><answer>[…]</answer>`: render, parse, repair or reject
    sample.py       the released row
    labelling.py    projects, tasks and answers in Label Studio
    release.py      the public release's own way of reading an answer
    export_json.py  the records' JSON Schemas (schemas/json/)

Import from the modules; this package file stays empty of imports so that importing one costs only that one.
"""
