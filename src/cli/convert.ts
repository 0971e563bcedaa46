/** `attentionpack convert <checkpoint> --out <folder>`: a LLaVA or Qwen2-VL checkpoint, or random weights of a known shape, into transformers.js layout. */
import { defineCommand } from 'citty';
import prettyBytes from 'pretty-bytes';
import { type ConvertProgress, type ConvertReport, convertCheckpoint, DTYPES, RANDOM_SHAPES, writeRandomModel } from '../convert/index.ts';
import { precisionOf } from '../convert/precision.ts';
import { AttentionPackError } from '../errors.ts';
import { jsonArg, needed, wholeNumber } from './args.ts';
import { interruptible } from './interruptible.ts';
import { guarded, Progress, printJson, printTable } from './output.ts';

export const convertCommand = defineCommand({
  meta: {
    name: 'convert',
    description: 'turn a Hugging Face checkpoint (LLaVA, Qwen2-VL) into the transformers.js layout, without Python',
  },
  args: {
    checkpoint: { type: 'positional', required: false, description: 'folder with config.json, safetensors and tokenizer files' },
    out: { type: 'string', description: 'folder to write; one converted before gets this precision too', valueHint: 'folder' },
    dtype: { type: 'string', default: 'q4', description: `one of ${DTYPES.join(', ')}` },
    random: { type: 'string', description: `random weights instead of a checkpoint: ${RANDOM_SHAPES.join(', ')}`, valueHint: 'shape' },
    seed: { type: 'string', description: 'seed of the random weights (default: 0)' },
    layers: { type: 'string', description: 'keep only this many decoder layers of a random model' },
    'accuracy-level': {
      type: 'string',
      description: '4: round activations to int8 in quantised products, faster on CPUs (default: 0, exact)',
    },
    ...jsonArg,
  },
  run: ({ args }) =>
    guarded(async () => {
      const start = performance.now();
      const progress = new Progress();
      const report = await interruptible(
        progress,
        (signal) => convert(args, { signal, onProgress: (step) => progress.update(progressLine(step)) }),
        () => 'nothing was written',
      );
      if (report) print(report, performance.now() - start, args.json === true);
    }),
});

type Args = Readonly<Record<string, unknown>>;
type Running = { signal: AbortSignal; onProgress: (step: ConvertProgress) => void };

function convert(args: Args, running: Running): Promise<ConvertReport> {
  const text = (name: string): string | undefined => (args[name] === undefined ? undefined : String(args[name]));
  const [checkpoint, random, seed, layers] = ['checkpoint', 'random', 'seed', 'layers'].map(text);
  if (!text('out')) throw new AttentionPackError('--out is missing; name the folder to write');
  const options = {
    out: text('out') ?? '',
    dtype: precisionOf(text('dtype') ?? '').dtype,
    accuracyLevel: accuracyLevel(text('accuracy-level')),
    ...running,
  };
  if (random === undefined) {
    for (const name of ['seed', 'layers']) {
      if (text(name) !== undefined) throw new AttentionPackError(`--${name} is for random models; add --random <shape> or leave it out`);
    }
    return convertCheckpoint({ from: needed('checkpoint', checkpoint), ...options });
  }
  if (checkpoint) throw new AttentionPackError(`a checkpoint (${checkpoint}) and --random ${random} were given; leave one out`);
  return writeRandomModel({
    shape: random,
    seed: seed === undefined || seed === '0' ? 0 : wholeNumber('--seed', seed),
    layers: layers === undefined ? undefined : wholeNumber('--layers', layers),
    ...options,
  });
}

function accuracyLevel(text: string | undefined): 0 | 4 {
  if (text !== undefined && text !== '0' && text !== '4') throw new AttentionPackError(`--accuracy-level is '${text}'; use 0 or 4`);
  return text === '4' ? 4 : 0;
}

function progressLine({ part, done, total }: ConvertProgress): string {
  return `${String(Math.floor((100 * done) / total)).padStart(3)} %  ${part}`;
}

function print(report: ConvertReport, ms: number, json: boolean): void {
  printTable(
    ['file', 'weights', 'data files'],
    report.models.map(({ file, bytes, dataFiles }) => [`onnx/${file}`, prettyBytes(bytes), dataFiles || 'inside']),
  );
  console.log(`${report.out}: ${report.dtype}, ${prettyBytes(report.bytes)} in ${(ms / 1000).toFixed(1)} s`);
  for (const note of report.notes) console.log(note);
  if (json) printJson({ ...report, seconds: ms / 1000 });
}
