"""Impact: reachability against an oracle that knows no shortest paths."""

from hypothesis import given
from hypothesis import strategies as st

from msp.assets.impact import KINDS, Edge, impact_of

EDGES = st.lists(
    st.builds(Edge, st.integers(1, 7), st.integers(1, 7), st.sampled_from(sorted(KINDS))).filter(
        lambda edge: edge.source != edge.target
    ),
    max_size=18,
)


def test_a_failed_disk_takes_server_and_database_down_and_weakens_the_cluster() -> None:
    disk, server, database, cluster = 1, 2, 3, 4
    edges = [Edge(server, disk, "stored_on"), Edge(database, server, "runs_on"), Edge(cluster, database, "member_of")]
    hits = impact_of(disk, edges)
    assert [(hit.item, hit.strength, len(hit.path)) for hit in hits] == [
        (server, "hard", 1),
        (database, "hard", 2),
        (cluster, "soft", 3),
    ]


@given(EDGES)
def test_agrees_with_a_fixed_point_over_sets(edges: list[Edge]) -> None:
    down = {1}
    while True:
        more = {e.source for e in edges if e.target in down and KINDS[e.kind] == "hard"} | down
        if more == down:
            break
        down = more
    weak = {e.source for e in edges if e.target in down} - down
    hits = impact_of(1, edges)
    assert {hit.item for hit in hits if hit.strength == "hard"} == down - {1}
    assert {hit.item for hit in hits if hit.strength == "soft"} == weak
    for hit in hits:
        assert hit.path[0].target == 1
        assert hit.path[-1].source == hit.item
        assert all(a.source == b.target for a, b in zip(hit.path, hit.path[1:], strict=False))
