"""Words of the credential pages and of pinned host keys. They join the vocabularies of words.py."""

from flask_babel import lazy_gettext as _

from msp_web.words import BAD, BADGES, BUSY, GOOD, QUIET, WARN, WORDS, Badge

BADGES["secret_state"] = {
    "exposed": Badge(_("seen, to be rotated"), BAD, "eye"),
    "overdue": Badge(_("too old"), BAD, "clock-x"),
    "due_soon": Badge(_("soon too old"), WARN, "clock"),
    "unknown": Badge(_("age not known"), QUIET, "help-circle"),
    "fresh": Badge(_("young enough"), GOOD, "circle-check"),
}
BADGES["grant_state"] = {
    "waiting": Badge(_("waiting for an answer"), WARN, "hand-stop"),
    "given": Badge(_("given"), GOOD, "circle-check"),
    "declined": Badge(_("declined"), BAD, "circle-x"),
    "withdrawn": Badge(_("withdrawn"), BAD, "ban"),
    "refused": Badge(_("refused by the contract"), BAD, "shield-x"),
    "expired": Badge(_("over"), QUIET, "clock-x"),
}
BADGES["rotation_state"] = {
    "applying": Badge(_("being set"), BUSY, "player-play"),
    "proving": Badge(_("being proven"), BUSY, "hourglass"),
    "withdrawing": Badge(_("old key being withdrawn"), BUSY, "player-play"),
    "backing": Badge(_("being put back"), WARN, "arrow-back-up"),
    "checking": Badge(_("being checked"), BUSY, "hourglass"),
    "done": Badge(_("proven"), GOOD, "shield-check"),
    "rolled_back": Badge(_("put back"), WARN, "arrow-back-up"),
    "stuck": Badge(_("stuck"), BAD, "alert-triangle"),
}
BADGES["key_change"] = {
    "waiting": Badge(_("waiting for a second person"), WARN, "hand-stop"),
    "approved": Badge(_("approved"), GOOD, "circle-check"),
    "declined": Badge(_("declined"), BAD, "circle-x"),
    "forced": Badge(_("glass broken"), WARN, "alert-triangle"),
    "outdated": Badge(_("outdated"), QUIET, "clock-x"),
}
BADGES["authority_state"] = {
    "signs": Badge(_("signs"), GOOD, "certificate"),
    "replaced": Badge(_("replaced"), QUIET, "refresh"),
    "revoked": Badge(_("taken back"), BAD, "ban"),
}
BADGES["certificate_state"] = {
    "valid": Badge(_("valid"), GOOD, "circle-check"),
    "over": Badge(_("over"), QUIET, "clock-x"),
    "revoked": Badge(_("taken back"), BAD, "ban"),
}
WORDS["old_algorithm"] = {
    "ssh-rsa": _("host keys and log-ins signed with SHA-1"),
    "ssh-dss": _("host keys of type DSA"),
    "diffie-hellman-group14-sha1": _("key exchange with SHA-1"),
    "diffie-hellman-group-exchange-sha1": _("key exchange with SHA-1"),
    "diffie-hellman-group1-sha1": _("key exchange over 1024 bits"),
    "aes128-cbc": _("cipher open to plaintext recovery"),
    "aes256-cbc": _("cipher open to plaintext recovery"),
    "3des-cbc": _("cipher with 64-bit blocks"),
    "hmac-sha1": _("integrity with SHA-1"),
}
WORDS["secret_kind"] = {"password": _("password"), "ssh_key": _("SSH key"), "other": _("other secret")}
WORDS["secret_act"] = {
    "secret.stored": _("stored"),
    "secret.replaced": _("value replaced"),
    "secret.deleted": _("forgotten"),
    "credential.asked": _("use asked for"),
    "credential.given": _("use given"),
    "credential.refused": _("use refused"),
    "credential.declined": _("use declined"),
    "credential.withdrawn": _("use withdrawn"),
    "credential.expired": _("use over"),
    "credential.used": _("used by a run"),
    "credential.revealed": _("seen by a person"),
    "rotation.begun": _("rotation begun"),
    "rotation.proven": _("rotation proven"),
    "rotation.rolled_back": _("rotation put back"),
    "rotation.stuck": _("rotation stuck"),
    "rotation.looked_again": _("rotation looked at again"),
}
