"""The dependency graph of a plan. Its vertices are numbers.

The vertices are calls and *gathers*. A gather represents a container that holds calls: the users
of the container wait for the gather, and the gather waits for the calls. Calls are numbered from
0 upwards, in plan order. Gathers are numbered from -1 downwards, so ``~vertex`` is the position
of a gather in the lists of gathers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["Graph"]

__tracebackhide__ = True  # pytest shows the frames of its user


class Graph:
    """The vertices and edges of a plan. Vertices are added, and never removed.

    The scheduler reads the lists directly, since it visits every edge.

    Attributes:
        needs: by call, the vertices that it waits for.
        users: by call, the vertices that wait for it; an empty tuple until there is one, since
            100 000 empty lists take 5 MB.
        gather_needs: by gather, the vertices that it waits for.
        gather_users: by gather, the vertices that wait for it.
    """

    def __init__(self) -> None:
        self.needs: list[tuple[int, ...]] = []
        self.users: list[list[int] | tuple[()]] = []
        self.gather_needs: list[tuple[int, ...]] = []
        self.gather_users: list[list[int]] = []
        # True once a call waits for a later one. Only then can there be a cycle.
        self._points_forward = False

    def add_call(self, needs: tuple[int, ...]) -> int:
        """Add a call.

        Args:
            needs: the vertices that it waits for, each once.

        Returns:
            Its number.
        """
        call = len(self.needs)
        self.needs.append(needs)
        self.users.append(())
        for vertex in needs:
            self._add_user(vertex, call)
        return call

    def add_gather(self, needs: tuple[int, ...]) -> int:
        """Add a gather.

        Args:
            needs: the vertices that it waits for, each once.

        Returns:
            Its number, which is negative.
        """
        self.gather_needs.append(needs)
        self.gather_users.append([])
        gather = -len(self.gather_needs)
        for vertex in needs:
            self._add_user(vertex, gather)
        return gather

    def add_needs(self, call: int, vertices: Iterable[int]) -> None:
        """Make a call wait for further vertices. Those that it waits for already are left out."""
        known = self.needs[call]
        new = [vertex for vertex in vertices if vertex not in known]
        self.needs[call] = (*known, *new)
        for vertex in new:
            self._add_user(vertex, call)
            latest = vertex if vertex >= 0 else self._latest_call(vertex)
            self._points_forward |= latest >= call

    def needs_of(self, vertex: int) -> tuple[int, ...]:
        """The vertices that a call or gather waits for."""
        return self.needs[vertex] if vertex >= 0 else self.gather_needs[~vertex]

    def calls_among(self, vertices: Iterable[int]) -> list[int]:
        """The calls among these vertices, and those that their gathers hold, at any depth."""
        found: dict[int, None] = {}
        stack = list(vertices)
        while stack:
            vertex = stack.pop()
            if vertex not in found:
                found[vertex] = None
                if vertex < 0:
                    stack += self.gather_needs[~vertex]
        return [vertex for vertex in found if vertex >= 0]

    def find_cycle(self) -> list[int]:
        """The calls of one cycle, each waiting for the next one; empty if there is no cycle."""
        if not self._points_forward:
            return []
        finished: set[int] = set()
        for start in range(len(self.needs)):
            path: dict[int, Iterator[int]] = {}  # in the order of the walk
            stack = [start]
            while stack:
                vertex = stack[-1]
                if vertex not in path:
                    if vertex in finished:
                        stack.pop()
                        continue
                    path[vertex] = iter(self.needs_of(vertex))
                for needed in path[vertex]:
                    if needed in path:
                        walked = list(path)
                        return [each for each in walked[walked.index(needed) :] if each >= 0]
                    if needed not in finished:
                        stack.append(needed)
                        break
                else:
                    finished.add(vertex)
                    del path[vertex]
                    stack.pop()
        return []

    def _add_user(self, vertex: int, user: int) -> None:
        if vertex < 0:
            self.gather_users[~vertex].append(user)
            return
        users = self.users[vertex]
        if isinstance(users, tuple):
            self.users[vertex] = [user]
        else:
            users.append(user)

    def _latest_call(self, gather: int) -> int:
        return max(self.calls_among([gather]), default=-1)
