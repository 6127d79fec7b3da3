"""Files that were made to hurt."""

import zipfile
from io import BytesIO


def hang_forever() -> bytes:
    """A page on which the parser works for a long time: nothing but very much of it."""
    return b"<p>text</p>" + b"<b></b>" * 5_000_000


ENDLESS = {
    "tags": b"<a ",
    "closing tags": b"</",
    "comments": b"<!--",
    "comments among tags": b"<!--x>",
    "sections": b"<![CDATA[",
    "sections among tags": b"<![CDATA[x>",
    "Office sections": b"<![if x>",
    "unknown sections": b"<![",
    "instructions": b"<?",
    "declarations": b"<!doctype",
    "titles": b"<title><",
    "menus": b"<nav></b>",
    "cells": b"<table><tr>" + b"<td>" * 100,
}
"""What begins, and never ends."""


def quote_nothing() -> bytes:
    """A table whose one cell has more characters than any cell may."""
    return b'a,b\n"' + b"x" * 1_200_000 + b'",1\n'


def wide_workbook() -> bytes:
    """A small workbook whose cells are a few hundred megabytes once they are Python's."""
    row = "".join(f'<c t="str"><v>cell number {n}</v></c>' for n in range(100))
    rows = f"<row>{row}</row>" * 1500
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "xl/workbook.xml",
            '<workbook xmlns:r="r"><sheets><sheet name="A" r:id="rId1"/></sheets></workbook>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            '<Relationships><Relationship Id="rId1" Type="x" Target="worksheets/sheet1.xml"/></Relationships>',
        )
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet><sheetData>{rows}</sheetData></worksheet>")
        # Random bytes keep the archive's ratio below that of a bomb.
        archive.writestr("xl/media/noise.bin", _noise(150_000))
    return buffer.getvalue()


def _noise(size: int) -> bytes:
    import random

    return random.Random(1).randbytes(size)


def zip_of_zips(depth: int = 6) -> bytes:
    """An archive in an archive in an archive, each full of zeros."""
    data = b"0" * 1_000_000
    for _ in range(depth):
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in range(10):
                archive.writestr(f"word/{name}.zip", data)
        data = buffer.getvalue()
    return data


def lying_zip(name: str, content: bytes, says: int) -> bytes:
    """An archive whose entry declares another size than it has."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    data = bytearray(buffer.getvalue())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.find(mark)
        data[place + offset : place + offset + 4] = says.to_bytes(4, "little")
    return bytes(data)


def many_entries(n: int) -> bytes:
    """An archive of very many empty parts."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(n):
            archive.writestr(f"word/{number}", b"")
    return buffer.getvalue()


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "lol " * 10}">' for n in range(10))
"""Ten lines that stand for tens of gigabytes (the billion laughs)."""


def nameless_pdf(text: bytes) -> bytes:
    """A PDF whose letters A to C are drawn, and named by nothing but places of private use."""
    names = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def "
        b"1 begincodespacerange <00> <FF> endcodespacerange 3 beginbfchar <41> <E001> <42> <E002> <43> <E003> "
        b"endbfchar endcmap end end"
    )
    content = b"BT /F 14 Tf 20 100 Td (%s) Tj ET" % text
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 200]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        page,
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 6 0 R>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(names), names),
    ]
    data = b"%PDF-1.4\n"
    places = []
    for number, each in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(data))
    return data + head + table + tail
