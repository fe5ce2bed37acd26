"""Words of consoles. They join the vocabularies of words.py."""

from flask_babel import lazy_gettext as _

from msp_web.words import BAD, BADGES, BUSY, GOOD, QUIET, WARN, WORDS, Badge

WORDS["console_kind"] = {"terminal": _("terminal"), "screen": _("screen")}
WORDS["console_mode"] = {"full": _("working"), "view": _("looking only")}
WORDS["ticket_event"]["console"] = _("console")
BADGES["console_state"] = {
    "granted": Badge(_("admitted, not opened yet"), BUSY, "hourglass"),
    "open": Badge(_("open now"), BAD, "eye"),
    "ended": Badge(_("ended"), QUIET, "player-stop"),
    "refused": Badge(_("refused by the contract"), BAD, "shield-x"),
    "expired": Badge(_("never opened"), QUIET, "clock-x"),
}
BADGES["console_end"] = {
    "closed": Badge(_("closed"), GOOD, "circle-check"),
    "exited": Badge(_("ended at the machine"), GOOD, "circle-check"),
    "idle": Badge(_("ended: nothing was typed"), QUIET, "hourglass"),
    "limit": Badge(_("ended: time was over"), QUIET, "clock-x"),
    "withdrawn": Badge(_("withdrawn"), WARN, "ban"),
    "not_allowed": Badge(_("ended: no longer allowed"), WARN, "shield-x"),
    "failed": Badge(_("did not open"), BAD, "circle-x"),
    "lost": Badge(_("machine was lost"), BAD, "plug-connected-x"),
    "gone": Badge(_("browser went away"), QUIET, "plug-connected-x"),
    "recording": Badge(_("ended: could not be recorded"), BAD, "device-floppy"),
    "stopped": Badge(_("our server stopped"), QUIET, "player-stop"),
}
