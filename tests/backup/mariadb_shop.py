"""A small shop in MariaDB, good and broken in one known way each, for dumps and physical backups alike."""

import shutil
import subprocess
from pathlib import Path

import pytest

from msp.backup.assertions.mariadb import Server

needed = [
    pytest.mark.server,
    pytest.mark.xdist_group("mariadb"),  # one worker makes the backups that its tests share
    pytest.mark.skipif(shutil.which("mariadbd", path="/usr/sbin:/usr/bin") is None, reason="MariaDB is not installed"),
]

SHOP = r"""
CREATE TABLE orders (id int PRIMARY KEY AUTO_INCREMENT, created datetime NOT NULL, note text, KEY orders_created (created));
CREATE TABLE `lines` (id int PRIMARY KEY, order_id int, FOREIGN KEY (order_id) REFERENCES orders (id));
INSERT INTO orders (created, note)
  SELECT utc_timestamp() - INTERVAL seq SECOND, concat('it''s \\ number; ', seq, '\n;\n') FROM seq_1_to_2000;
INSERT INTO `lines` SELECT seq, seq FROM seq_1_to_1000;
CREATE DEFINER = app@'%' SQL SECURITY DEFINER VIEW recent AS SELECT * FROM orders WHERE id < 11;
CREATE DEFINER = app@localhost FUNCTION twice(n int) RETURNS int DETERMINISTIC RETURN n * 2;
DELIMITER //
CREATE DEFINER = app@localhost PROCEDURE tidy() BEGIN
SELECT 1;
RESET QUERY CACHE;
FLUSH STATUS;
END//
DELIMITER ;
CREATE DEFINER = app@localhost TRIGGER stamp BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = coalesce(NEW.note, 'x');
"""  # noqa: E501
DEFINERS = ("app@'%'", "app@localhost")
ASKED = {
    "tables": {"orders": {"rows_min": 2000}, "shop.lines": {"rows_min": 1000}},
    "columns": {"orders": ["id", "created", "note"]},
    "indexes": ["orders_created", "orders.PRIMARY"],
    "queries": [
        {"sql": "select count(*) from `lines` where order_id not in (select id from orders)", "equals": 0},
        {"sql": "select count(*) from recent", "equals": 10},
        {"sql": "select twice(21)", "equals": 42},
        {"sql": "select null", "equals": None},
    ],
    "fresh": {"sql": "select max(created) from orders", "within_s": 86400},
}
BROKEN = {
    "good": "",
    "stale": "UPDATE orders SET created = created - INTERVAL 10 DAY",
    "half": "DELETE FROM `lines`; DELETE FROM orders WHERE id > 100",
    "orphans": "ALTER TABLE `lines` DROP FOREIGN KEY lines_ibfk_1; DELETE FROM orders WHERE id < 10; "
    "INSERT INTO orders (created) SELECT utc_timestamp() FROM seq_1_to_20",
    "table": "DROP TABLE `lines`",
    "index": "ALTER TABLE orders DROP INDEX orders_created",
    "column": "DROP TRIGGER stamp; ALTER TABLE orders DROP COLUMN note; "
    "CREATE OR REPLACE VIEW recent AS SELECT id FROM orders WHERE id < 11",
    "other": "DROP TABLE `lines`; DROP TABLE orders; DROP VIEW recent; CREATE TABLE blog (id int)",
    "empty": "DROP TABLE `lines`; DROP VIEW recent; DROP TABLE orders",
}


def fill(server: Server, sql: str) -> None:
    """Make the database `shop` anew and break it by `sql`."""
    users = "".join(f"CREATE USER IF NOT EXISTS {who}; GRANT ALL ON shop.* TO {who};" for who in DEFINERS)
    script = f"{users} DROP DATABASE IF EXISTS shop; CREATE DATABASE shop; USE shop;\n{SHOP}\n{sql};"
    words = ["mariadb", "--no-defaults", f"--socket={server.socket}", f"-u{server.admin}"]
    done = subprocess.run(words, input=script.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def cut_after_a_statement(dump: Path) -> None:
    """Cut a dump so that the rest loads with status 0 and holds 68 % of the orders."""
    text = dump.read_bytes().replace(b"),\n(", b"),(")
    insert = text.index(b"INSERT INTO `orders`")
    dump.write_bytes(text[: text.index(b"),(1361,", insert) + 1] + b";\n")


def forge_its_end(dump: Path) -> None:
    """Cut it likewise and write the line that ends a whole dump."""
    cut_after_a_statement(dump)
    dump.write_bytes(dump.read_bytes() + b"UNLOCK TABLES;\n-- Dump completed on 2026-09-21 12:00:00\n")


def back_up(of: Server, *words: str) -> bytes:
    argv = ["mariadb-backup", "--no-defaults", "--backup", f"--socket={of.socket}", f"--user={of.admin}"]
    done = subprocess.run([*argv, f"--datadir={of.data}", *words], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
