/** What a cache will hold once the prompt under way is read, as far as its bytes go: what a budget is shared out by. */
import type { ResolvedCacheOptions } from '../options.ts';
import { packsRawKeys } from '../shape.ts';
import type { Prospect } from './budget.ts';
import { type PackedGraph, positionAxes } from './feeds.ts';
import type { Extents } from './footprint.ts';
import type { Pending } from './pending.ts';
import { factoredTogether, type OpenSpan, positionsOf, slotsOf } from './spans.ts';
import { type Packed, type SpanGroup, spansOf, textToCome, withText } from './text.ts';
import { roundUp } from './window.ts';

/** The cache, when something is about to be packed for the first time. */
export interface Moment {
  readonly graph: PackedGraph;
  readonly options: ResolvedCacheOptions;
  readonly pending: Pending;
  /** What is packed now. */
  readonly now: readonly SpanGroup[];
  /** Of text that may be packed, what is not packed now. */
  readonly textLeft: readonly OpenSpan[];
  /** Slots of text still to be run, of the first sequence; padding and sink left out. */
  readonly textUnread: readonly number[];
  /** By sequence: rows in the window, tokens still to be run, and what the packed part has. */
  readonly windowRows: readonly number[];
  readonly numUnread: readonly number[];
  readonly packed: readonly Packed[];
  /** Slots used when the prompt is read. */
  readonly numSlots: number;
  readonly counts: Pick<Extents, 'batch' | 'tokenCapacity' | 'watched'>;
  /** Bits per column, where columns have any. */
  readonly bits: number;
}

export function prospectOf(moment: Moment): Prospect {
  const { graph, options, pending, windowRows, numUnread, numSlots, counts } = moment;
  const { groups, textLeft } = groupsOf(moment);
  const packing = groups.flatMap(spansOf);
  const numIn = (b: number): number => numTokens(packing.filter(({ sequence }) => sequence === b));
  const rows = windowRows.map((length, b) => length + (numUnread[b] ?? 0) - numIn(b));
  const { tiers } = options;
  return {
    ...counts,
    numSlots,
    windowRows: roundUp(Math.max(...rows)),
    segments: groups.map(spansOf).map((spans) => ({
      sequence: spans[0]?.sequence ?? 0,
      slots: spans.flatMap(slotsOf),
      positions: spans.flatMap((span) => positionsOf(span, positionAxes(graph))),
    })),
    pendingTokens: packsRawKeys(graph.rotary) ? pending.imageTokensBut(packing) + numTokens(textLeft) : 0,
    ...(graph.tiered && { tierOrders: tiers && tiers.share < 1 ? graph.shape.layers.length : 1 }),
  };
}

/** What shares a basis, now and until the prompt is read, and the text that then still waits. */
function groupsOf({ graph, options, pending, now, textLeft, textUnread, numSlots, packed, bits }: Moment): {
  readonly groups: readonly SpanGroup[];
  readonly textLeft: readonly OpenSpan[];
} {
  const isNew = new Set(now.flatMap(({ images }) => images));
  const later = pending.dueImages(numSlots).filter((span) => !isNew.has(span));
  const groups = [...now, ...factoredTogether(later, options.basisPer).map((images): SpanGroup => ({ images, text: [] }))];
  if (!options.text) return { groups, textLeft: [] };
  const { due, left } = textToCome(graph.shape, textLeft, textUnread, numSlots, options);
  const own = due.length ? withText(graph.shape, [], due, options, { ...graph, bits }, behind(packed, groups)) : [];
  return { groups: [...groups, ...own], textLeft: left };
}

/** What the packed part has once `groups` are in it. */
function behind(packed: readonly Packed[], groups: readonly SpanGroup[]): Packed[] {
  const longest = Math.max(0, ...groups.map((group) => numTokens(spansOf(group))));
  return packed.map(({ segments, tokens }, b) => ({
    segments: segments + groups.filter((group) => spansOf(group)[0]?.sequence === b).length,
    tokens: Math.max(tokens, longest),
  }));
}

const numTokens = (spans: readonly OpenSpan[]): number => spans.reduce((sum, span) => sum + slotsOf(span).length, 0);
