"""What two plays are compared by."""

from tests.campaign import state


def test_the_order_does_not_depend_on_what_is_replaced() -> None:
    def namespace(proven: str) -> str:
        found = [{"data": {proven: ""}, "kind": "ConfigMap"}, {"data": {"5555555555": "x"}, "kind": "ConfigMap"}]
        return state.as_text(found, "play")

    assert namespace("0123456789") == namespace("9876543210")
