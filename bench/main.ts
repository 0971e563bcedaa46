/** `npm run bench -- <suite>`: arguments of the benchmarks. Each prints a table; with --json one JSON line last. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { defineCommand, runMain } from 'citty';
import { jsonArg, share, wholeNumber } from '../src/cli/args.ts';
import { PACKAGE_ROOT } from '../src/cli/embedded.ts';
import { guarded, Progress, printJson, printTable } from '../src/cli/output.ts';
import { DTYPES, RANDOM_SHAPES } from '../src/convert/index.ts';
import { COMPACT_AT, oneOf } from '../src/options.ts';
import { ALLOCATION_SETTINGS, allocationSuite } from './allocation.ts';
import { timeAllocation } from './allocation-time.ts';
import { benchDecode, type DecodeResult } from './decode.ts';
import { benchEncoding } from './encoding.ts';
import { loyaltySuite } from './loyalty/main.ts';
import { readMachine } from './machine.ts';
import { ON_REQUEST, OPPONENTS } from './opponents/index.ts';
import { measurePrefillMemory } from './prefill-memory.ts';
import { benchRotary, printRotary, ROTARY_SHAPES, type RotaryRow } from './rotary.ts';
import { benchTiers, printTiers, TIER_CODES, TIER_SHAPES, type TierRow } from './tiers.ts';

const NAMES = OPPONENTS.map(({ name }) => name);

const decode = defineCommand({
  meta: { name: 'decode', description: 'milliseconds per token behind a long context: stock transformers.js and packed caches' },
  args: {
    shape: { type: 'string', default: 'smol-135m,mha-1.7b', description: `random models: ${RANDOM_SHAPES.join(', ')}` },
    context: { type: 'string', default: '512,2048,8192', description: 'tokens in the cache' },
    only: {
      type: 'string',
      default: NAMES.filter((name) => !ON_REQUEST.includes(name)).join(','),
      description: `opponents: ${NAMES.join(', ')}`,
    },
    dtype: { type: 'string', default: 'q4', description: 'precision of the weights' },
    accuracy: { type: 'string', default: '4', description: 'accuracy_level of int4 products: 4 (in int8) or 0 (in float32)' },
    layers: { type: 'string', description: 'keep only this many layers of the model, for trying the benchmark itself' },
    rounds: { type: 'string', default: '2', description: 'fresh processes per row; their order is reversed each time' },
    steps: { type: 'string', default: '5', description: 'least timed steps in a process; quick ones take more' },
    threads: { type: 'string', default: '2', description: 'threads of ONNX Runtime' },
    models: { type: 'string', default: path.join(PACKAGE_ROOT, '.cache', 'bench'), description: 'folder random models are kept in' },
    results: { type: 'string', default: path.join(import.meta.dirname, 'results'), description: 'folder dated results are written to' },
    ...jsonArg,
  },
  run: ({ args }) =>
    guarded(async () => {
      const numbers = (name: string, text: string): number[] => text.split(',').map((part) => wholeNumber(name, part));
      const shapes = args.shape.split(',').map((shape) => oneOf('--shape', shape, RANDOM_SHAPES));
      const common = {
        dtype: oneOf('--dtype', args.dtype, DTYPES),
        accuracy: Number(oneOf('--accuracy', args.accuracy, ['0', '4'])) as 0 | 4,
        layers: args.layers === undefined ? undefined : wholeNumber('--layers', args.layers),
        contexts: numbers('--context', args.context),
        opponents: args.only.split(',').map((name) => oneOf('--only', name, NAMES)),
        rounds: wholeNumber('--rounds', args.rounds),
        steps: wholeNumber('--steps', args.steps),
        threads: wholeNumber('--threads', args.threads),
        modelRoot: args.models,
        resultsFolder: args.results,
        signal: interruptSignal(),
      };
      const progress = new Progress();
      progress.update('measuring bandwidth and GEMM rate');
      const machine = await readMachine(common.threads);
      const results: DecodeResult[] = [];
      for (const shape of shapes) {
        if (common.signal.aborted) break;
        results.push(await benchDecode({ shape, ...common }, machine, progress));
      }
      if (args.json) printJson({ machine, results });
      if (common.signal.aborted) process.exitCode = 130;
    }),
});

/** Aborted by the first Ctrl-C, so that finished rows are still printed; the second one ends the process as usual. */
function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort());
  return controller.signal;
}

const loyalty = defineCommand({
  meta: { name: 'loyalty', description: "what each packing keeps of the dense model's answers, against its bytes, on the embedded model" },
  args: { contexts: { type: 'string', description: 'only the first contexts; nothing is saved then' }, ...jsonArg },
  run: ({ args }) =>
    guarded(() =>
      loyaltySuite({
        json: args.json ?? false,
        contexts: args.contexts === undefined ? undefined : wholeNumber('--contexts', args.contexts),
      }),
    ),
});

const allocation = defineCommand({
  meta: { name: 'allocation', description: "bytes shared out by the allocator, evenly, and by ONNX Runtime's quantised caches" },
  args: {
    model: { type: 'string', default: 'pack-mha', description: 'pack-mha or pack-gqa' },
    time: { type: 'boolean', description: "only how long the allocator takes at LLaVA-1.5-7B's shapes" },
    cache: { type: 'string', default: ALLOCATION_SETTINGS, description: "cache settings, as 'attentionpack eval' takes them" },
    tasks: { type: 'string', description: 'drawn tasks, or embedded: the evaluation set of pack-mha (default: that, or name,ocr,five)' },
    contexts: { type: 'string', default: '40', description: 'only the first contexts of each task' },
    moments: { type: 'string', description: 'file of query moments; see attentionpack calibrate' },
    ...jsonArg,
  },
  run: ({ args }) =>
    guarded(async () => {
      if (args.time) {
        const times = [64, 128].map((rank) => timeAllocation(rank));
        for (const { rank, ms } of times) console.log(`rank ${rank}: ${ms.map((each) => each.toFixed(0)).join(', ')} ms`);
        if (args.json) printJson({ times });
        return;
      }
      const model = oneOf('--model', args.model, ['pack-mha', 'pack-gqa']);
      await allocationSuite({
        model,
        cache: args.cache,
        tasks: args.tasks ?? (model === 'pack-mha' ? 'embedded' : 'name,ocr,five'),
        contexts: wholeNumber('--contexts', args.contexts),
        moments: args.moments,
        json: args.json ?? false,
      });
    }),
});

const rotary = defineCommand({
  meta: { name: 'rotary', description: 'attention on packed images in each rotary mode, where keys turn by time, height and width' },
  args: {
    shape: {
      type: 'string',
      default: Object.keys(ROTARY_SHAPES).join(','),
      description: `one of ${Object.keys(ROTARY_SHAPES).join(', ')}, or more`,
    },
    context: {
      type: 'string',
      default: '1x1x16x16,1x1x32x32,4x1x16x16,1x1x64x64,1x16x16x16,16x1x16x16,16x1x32x32,4x16x16x16',
      description: 'images x frames x rows x columns',
    },
    new: { type: 'string', default: '1', description: 'new tokens of a step' },
    layers: { type: 'string', default: '12', description: 'layers of the decoder' },
    steps: { type: 'string', default: '9', description: 'timed steps in each mode' },
    results: { type: 'string', description: 'file the rows and the machine are written to' },
    ...jsonArg,
  },
  run: ({ args }) =>
    guarded(async () => {
      const shapes = args.shape
        .split(',')
        .map((shape) => oneOf('--shape', shape, Object.keys(ROTARY_SHAPES) as (keyof typeof ROTARY_SHAPES)[]));
      const [numNew, layers, steps] = (['new', 'layers', 'steps'] as const).map((name) => wholeNumber(name, args[name])) as [
        number,
        number,
        number,
      ];
      const machine = await readMachine(1);
      const rows: RotaryRow[] = [];
      for (const shape of shapes)
        for (const context of args.context.split(',')) rows.push(...(await benchRotary({ shape, context, numNew, layers, steps })));
      printRotary(rows);
      if (args.results) writeFileSync(args.results, `${JSON.stringify({ machine, layers, rows }, null, 1)}\n`);
      if (args.json) printJson({ machine, layers, rows });
    }),
});

const tiers = defineCommand({
  meta: { name: 'tiers', description: 'attention on packed images with tiers and without' },
  args: {
    shape: { type: 'string', default: 'mha', description: `one of ${Object.keys(TIER_SHAPES).join(', ')}, or more` },
    rotary: { type: 'string', default: 'post-rope,rotate-late', description: 'post-rope, rotate-late or both' },
    codes: { type: 'string', default: 'float32', description: `element type of codes: ${TIER_CODES.join(', ')}` },
    context: { type: 'string', default: '1x2048,1x8192,15x576', description: 'images x tokens' },
    rank: { type: 'string', default: '64', description: 'columns of the codes' },
    'tier-rank': { type: 'string', default: '16', description: 'columns that the second tier is read by' },
    share: { type: 'string', default: '0.25', description: 'share of tokens in the first tier' },
    every: { type: 'string', default: '8', description: 'steps after which tokens are dealt anew' },
    layers: { type: 'string', default: '8', description: 'layers of the decoder' },
    steps: { type: 'string', default: '17', description: 'timed steps in each form' },
    results: { type: 'string', description: 'file the rows and the machine are written to' },
    ...jsonArg,
  },
  run: ({ args }) =>
    guarded(async () => {
      const shapes = args.shape
        .split(',')
        .map((shape) => oneOf('--shape', shape, Object.keys(TIER_SHAPES) as (keyof typeof TIER_SHAPES)[]));
      const modes = args.rotary.split(',').map((mode) => oneOf('--rotary', mode, ['post-rope', 'rotate-late'] as const));
      const [rank, lead, every, layers, steps] = (['rank', 'tier-rank', 'every', 'layers', 'steps'] as const).map((name) =>
        wholeNumber(`--${name}`, args[name]),
      ) as [number, number, number, number, number];
      const common = {
        codes: oneOf('--codes', args.codes, TIER_CODES),
        rank,
        lead,
        share: share('--share', args.share),
        every,
        layers,
        steps,
      };
      const machine = await readMachine(1);
      const rows: TierRow[] = [];
      for (const shape of shapes)
        for (const rotary of modes)
          for (const context of args.context.split(',')) rows.push(...(await benchTiers({ shape, rotary, context, ...common })));
      printTiers(rows);
      if (args.results) writeFileSync(args.results, `${JSON.stringify({ machine, layers, rows }, null, 1)}\n`);
      if (args.json) printJson({ machine, layers, rows });
    }),
});

const encoding = defineCommand({
  meta: { name: 'encoding', description: 'what packing costs beside the prefill it belongs to, through a real decoder of few layers' },
  args: {
    shape: { type: 'string', default: 'llava-1.5-7b', description: 'random models: smol-135m, mha-1.7b, llava-1.5-7b' },
    dtype: { type: 'string', default: 'q4', description: 'precision of the weights' },
    layers: { type: 'string', default: '2', description: 'layers of the decoder' },
    images: { type: 'string', default: '8', description: 'images of 576 tokens' },
    rounds: { type: 'string', default: '3', description: 'prefills in each setting, one more to warm up' },
    threads: { type: 'string', default: '2', description: 'threads of ONNX Runtime' },
    models: { type: 'string', default: path.join(PACKAGE_ROOT, '.cache', 'bench'), description: 'folder random models are kept in' },
    results: { type: 'string', description: 'file the rows and the machine are written to' },
    ...jsonArg,
  },
  run: ({ args }) =>
    guarded(async () => {
      const [layers, images, rounds, threads] = (['layers', 'images', 'rounds', 'threads'] as const).map((name) =>
        wholeNumber(`--${name}`, args[name]),
      ) as [number, number, number, number];
      const progress = new Progress();
      const rows = await benchEncoding({
        root: args.models,
        shape: args.shape,
        dtype: oneOf('--dtype', args.dtype, ['q4', 'q8', 'fp32'] as const),
        layers,
        images,
        rounds,
        threads,
        onProgress: (text) => progress.update(text),
      });
      progress.done();
      printTable(
        ['packing', 'tokens', 'prefill', 'of which packing', 'share'],
        rows.map(({ packing, tokens, prefillMs, compactMs, share }) => [
          packing,
          tokens,
          `${prefillMs.toFixed(0)} ms`,
          `${compactMs.toFixed(0)} ms`,
          `${(100 * share).toFixed(1)} %`,
        ]),
      );
      const machine = await readMachine(threads);
      if (args.results)
        writeFileSync(args.results, `${JSON.stringify({ machine, shape: args.shape, dtype: args.dtype, layers, rows }, null, 1)}\n`);
      if (args.json) printJson({ machine, rows });
    }),
});

const memory = defineCommand({
  meta: {
    name: 'memory',
    description: 'the most a process holds while it reads pictures, against what it holds once they are packed; one setting a call',
  },
  args: {
    images: { type: 'string', default: '64', description: 'pictures, of the demo of pack-mha' },
    'compact-at': { type: 'string', default: 'span', description: COMPACT_AT.join(' or ') },
    rank: { type: 'string', default: '8', description: 'columns kept of each picture' },
    ...jsonArg,
  },
  run: ({ args }) =>
    guarded(async () => {
      const [images, rank] = [wholeNumber('--images', args.images), wholeNumber('--rank', args.rank)];
      const row = await measurePrefillMemory(images, { compactAt: oneOf('--compact-at', args['compact-at'], COMPACT_AT), rank });
      const mb = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
      printTable(
        ['tokens', 'loaded', 'peak', 'in the end', 'cache', 'peak / (end + chunk)'],
        [[row.tokens, mb(row.loadedBytes), mb(row.peakBytes), mb(row.finalBytes), mb(row.cacheBytes), row.ratio.toFixed(2)]],
      );
      if (args.json) printJson(row);
    }),
});

await runMain(
  defineCommand({
    meta: { name: 'bench', description: 'the benchmarks of attentionpack' },
    subCommands: { decode, encoding, memory, loyalty, allocation, rotary, tiers },
  }),
);
