"""The same calls on the workers of a cluster. No address is needed: it starts its own."""

import time

from pcall import Pcall, Plan, run

try:
    from pcall.cluster import Cluster
except ModuleNotFoundError as error:
    print(f"skipped: {error}")
    raise SystemExit(0) from None


def square(x: int) -> int:
    time.sleep(0.01)
    return x * x


def main() -> None:
    with Cluster() as cluster:
        print(Pcall.options(engine=cluster).pcall(square, x=range(5)))

        plan = Plan()
        total = plan.call(sum, [plan.call(square, number) for number in range(10)])
        print(run(plan, output=total, engine=cluster))

        workers = {outcome.worker for outcome in cluster.execute(Pcall(square, x=range(20)))}
        print(workers <= {worker.name for worker in cluster.workers})


if __name__ == "__main__":
    main()
