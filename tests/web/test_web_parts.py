"""The kit on its page: parts come in, are carried and ordered; who only looks changes nothing."""

from collections.abc import Callable

from flask import Flask


def test_parts_come_in_are_carried_and_ordered(app: Flask, log_in: Callable) -> None:
    planner = log_in("dispatch@provider.example")
    assert planner.send("/dispatch/parts/add", sku="=FAN", name="Fan", minimum="4").status_code == 303
    assert planner.send("/dispatch/parts/add", sku="=FAN", name="Fan", minimum="4").status_code == 409
    assert "'=FAN,Fan,4,0,4,0" in planner.get("/dispatch/parts/order.csv").text.replace('"', "")
    assert planner.send("/dispatch/parts/move", act="receive", sku="=FAN", quantity="9").status_code == 303
    assert "FAN" not in planner.get("/dispatch/parts/order.csv").text
    gone = planner.send("/dispatch/parts/move", act="write_off", sku="=FAN", quantity="99", reason="lost")
    assert gone.status_code == 409
    assert "are not free in the depot" in gone.text
    for wrong in ({"act": "eat"}, {"quantity": "-1"}, {"sku": "none"}, {"target": "999999"}):
        form = {"act": "receive", "sku": "=FAN", "quantity": "1", **wrong}
        assert planner.send("/dispatch/parts/move", **form).status_code in (404, 422), wrong
    looker = log_in("tech@provider.example")
    assert "=FAN" in looker.get("/dispatch/parts").text
    assert looker.send("/dispatch/parts/move", act="receive", sku="=FAN", quantity="1").status_code == 403
