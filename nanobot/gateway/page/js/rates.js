// From the totals of two moments to what happened in between. No document here.

const WINDOW_S = 10; // a look at one second would jump between 0 and much

export class Rates {
  #seen = [];

  // `turns` are the totals of the runtime, `bounds` the upper bounds of their latency buckets, in seconds.
  add(at, turns, bounds) {
    this.#seen.push({ at, turns });
    while (this.#seen.length > 2 && this.#seen[1].at <= at - WINDOW_S) this.#seen.shift();
    const before = this.#seen[0];
    const passed = at - before.at;
    if (passed <= 0) return { turns: null, tokens: null, median: null, slow: null };
    const counts = turns.latency_counts.map((count, index) => count - before.turns.latency_counts[index]);
    return {
      turns: (turns.ended - before.turns.ended) / passed,
      tokens: (turns.completion_tokens - before.turns.completion_tokens) / passed,
      median: quantile(counts, bounds, 0.5),
      slow: quantile(counts, bounds, 0.95),
    };
  }
}

// Within a bucket turns are taken to be spread evenly; past the last bound nothing is known but the bound.
export function quantile(counts, bounds, share) {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (!all) return null;
  let left = all * share;
  for (let index = 0; index < bounds.length; index++) {
    if (left <= counts[index]) {
      const below = index ? bounds[index - 1] : 0;
      return below + (bounds[index] - below) * (counts[index] ? left / counts[index] : 0);
    }
    left -= counts[index];
  }
  return bounds.at(-1);
}
