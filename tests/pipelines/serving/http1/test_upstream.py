"""One connection to an arm carries one call after another."""

import asyncio

from pipelines.serving.http1.upstream import UpstreamConnection


class Line(asyncio.Transport):
    """What a connection is told to do with its socket."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = True

    def write(self, data):
        """All of it is sent at once."""

    def get_write_buffer_size(self):
        """Nothing waits to be sent."""
        return 0

    def is_closing(self):
        """It stays open."""
        return False

    def pause_reading(self):
        """The arm is held up."""
        self.reads = False

    def resume_reading(self):
        """It is heard again."""
        self.reads = True


class Held:
    """A caller whose client does not read: the arm is held up at every piece."""

    is_head = False

    def __init__(self, connection) -> None:
        self.connection, self.heard = connection, []

    def began(self, answer, now_s):
        """The head, and some of the body."""
        self.heard.append(answer.begun)

    def piece(self, data, now_s):
        """Some more."""
        self.heard.append(data)
        self.connection.pause()

    def ended(self, now_s):
        """The end."""
        self.heard.append("end")


class Owner:
    """Keeps what is given back."""

    def __init__(self) -> None:
        self.kept = []

    def give_back(self, connection, now_s):
        """It can be used again."""
        self.kept.append(connection)


def test_a_connection_that_a_slow_client_held_up_is_heard_by_the_next_one():
    """The last piece came while the client did not read: who is given the connection next waits for no one."""
    owner, line = Owner(), Line()
    connection = UpstreamConnection(owner)
    connection.connection_made(line)
    caller = Held(connection)
    connection.carry(caller, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"")
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no")
    connection.data_received(b"k")
    assert (caller.heard, owner.kept, line.reads) == ([b"o", b"k", "end"], [connection], True)
