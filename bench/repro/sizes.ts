/** How much each part asks: by default about half an hour for both embedded models on two quiet cores; less with `--limit`. */

export interface Sizes {
  /** Contexts whose keys and values are looked at. */
  readonly spectra: number;
  /** Contexts of the quality tasks: eight pictures, five questions each. */
  readonly quality: number;
  /** Contexts by number of frames. */
  readonly frames: readonly { readonly frames: number; readonly contexts: number }[];
  /** Decode steps are timed behind one context of so many pictures; each round goes through all settings, every other one backwards. */
  readonly steps: { readonly pictures: number; readonly rounds: number; readonly tokens: number };
  /** Queries of one context of so many pictures, in blocks that go through all settings in turn. */
  readonly latency: { readonly pictures: number; readonly blocks: number; readonly perBlock: number };
}

export const FULL: Sizes = {
  spectra: 4,
  quality: 30,
  frames: [
    { frames: 4, contexts: 24 },
    { frames: 8, contexts: 16 },
    { frames: 16, contexts: 10 },
    { frames: 32, contexts: 6 },
    { frames: 64, contexts: 4 },
  ],
  steps: { pictures: 32, rounds: 6, tokens: 12 },
  latency: { pictures: 64, blocks: 10, perBlock: 10 },
};

/** What `--quick` stands for. */
export const QUICK_LIMIT = 3;

/** @param limit most contexts anywhere; numbers of pictures, rounds and queries shrink with it. Default: all. */
export function sizesOf(limit: number | undefined): Sizes {
  if (limit === undefined) return FULL;
  const most = 4 * 2 ** limit;
  return {
    spectra: Math.min(limit, FULL.spectra),
    quality: Math.min(limit, FULL.quality),
    frames: FULL.frames
      .filter(({ frames }) => frames <= most)
      .map(({ frames, contexts }) => ({ frames, contexts: Math.min(limit, contexts) })),
    steps: { pictures: Math.min(most, FULL.steps.pictures), rounds: Math.min(limit + 1, FULL.steps.rounds), tokens: 4 },
    latency: {
      pictures: Math.min(most, FULL.latency.pictures),
      blocks: Math.min(2 * limit, FULL.latency.blocks),
      perBlock: Math.min(2 * limit, FULL.latency.perBlock),
    },
  };
}

/** One line for `--help`. */
export function describeSizes({ spectra, quality, frames, steps, latency }: Sizes): string {
  const clips = frames.map((entry) => `${entry.contexts} of ${entry.frames}`).join(', ');
  return [
    `spectra of ${spectra} contexts of eight pictures`,
    `quality on ${quality} contexts of eight pictures with five questions each`,
    `frames: contexts ${clips}`,
    `throughput: ${steps.rounds} rounds of ${steps.tokens} tokens behind ${steps.pictures} pictures`,
    `latency: ${latency.blocks * latency.perBlock} queries of ${latency.pictures} pictures`,
  ].join('; ');
}
