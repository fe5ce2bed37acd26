"""PowerShell's standard error, which is XML when nobody watches: turned back into the lines of text it stands for.

Source: [MS-PSRP] 2.2.5, serialization of PowerShell objects. Only its text is wanted: errors and
warnings, not progress.
"""

import re
import xml.etree.ElementTree as ET

MARK = b"#< CLIXML"
LARGEST = 4 * 1024 * 1024  # bytes; more than that is passed on as it is
SHOWN = {"Error": "", "Warning": "WARNING: ", "Verbose": "VERBOSE: ", "Debug": "DEBUG: "}
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")


def text(element: str) -> str:
    """Return a serialized string with its escapes (`_x000A_`) undone; pairs of surrogates become one character."""
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), element)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def lines(document: bytes) -> bytes:
    """Return what one document of CLIXML (without its mark) says, as UTF-8; raises ParseError.

    Of objects that are no strings the text of their message, or their own text, is taken.
    """
    if b"<!" in document:
        raise ET.ParseError("a document type, which PowerShell never writes")
    found = []
    for element in ET.fromstring(document):  # noqa: S314  no entities can be declared: see above
        kind = element.get("S", "")
        if kind not in SHOWN:
            continue  # progress records, information
        name = element.tag.rpartition("}")[2]
        said = element.text if name == "S" else next(iter(_said(element)), "")
        whole = text(said or "")
        found.append(SHOWN[kind] + whole + ("" if name == "S" and kind == "Error" else "\n"))
    return "".join(found).replace("\r\n", "\n").encode("utf-8", "replace")


def _said(element: ET.Element) -> list[str]:
    names = [part for part in element.iter() if part.get("N") in ("Message", "ErrorDetails_Message")]
    texts = [part for part in element.iter() if part.tag.rpartition("}")[2] == "ToString"]
    return [part.text for part in (*names, *texts) if part.text]


class Reader:
    """Takes a stream in pieces and gives it on as text; what is not CLIXML passes as it is."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._inside = False  # of CLIXML, which is held until its end
        self._plain = False  # it is too large to be held

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be given on now."""
        if self._plain:
            return chunk
        self._held += chunk
        if self._inside:
            self._plain = len(self._held) > LARGEST
            return self._released(len(self._held)) if self._plain else b""
        begin = self._held.find(MARK)
        self._inside = begin >= 0
        return self._released(begin if begin >= 0 else max(len(self._held) - len(MARK) + 1, 0))

    def end(self) -> bytes:
        """Return what is left at the end of the stream."""
        rest = self._released(len(self._held))
        if not self._inside or self._plain:
            return rest
        said = []
        for part in re.split(rb"(<Objs\b.*?</Objs>)", rest.replace(MARK, b""), flags=re.DOTALL):
            try:
                said.append(lines(part) if part.startswith(b"<Objs") else part.lstrip(b"\r\n"))
            except ET.ParseError:
                said.append(part)
        return b"".join(said)

    def _released(self, count: int) -> bytes:
        ready = bytes(self._held[:count])
        del self._held[:count]
        return ready
