/**
 * `attentionpack inspect <model | decoder.onnx>`: layers, heads, widths and bytes per token of a decoder, and whether it can be packed; with
 * `--spectrum`, how low-rank its keys and values are.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { type ArgsDef, defineCommand } from 'citty';
import prettyBytes from 'pretty-bytes';
import { AttentionPackError } from '../errors.ts';
import { readModel } from '../onnx/index.ts';
import { rewrite } from '../rewrite.ts';
import { denseTokenBytes } from '../shape.ts';
import { jsonArg } from './args.ts';
import { modelNamed } from './embedded.ts';
import { guarded, printJson, printTable } from './output.ts';

/** What only `--spectrum` takes. They stand here so that plain `inspect` starts without loading transformers.js. */
const spectrumArgs = {
  image: {
    type: 'string',
    description:
      'with --spectrum: a picture, or a folder of them; may be given several times (default: the demo pictures in the model folder)',
  },
  clip: { type: 'boolean', description: 'with --spectrum: the pictures are frames of one clip, in order of time' },
  text: {
    type: 'string',
    description: 'with --spectrum: the text behind the pictures (default: the demo questions in the model folder, one after the other)',
  },
  layers: {
    type: 'string',
    description: 'with --spectrum: layers to look at, such as 0,15,31 (default: all); memory is 12·T·W bytes for each',
  },
  svg: { type: 'string', description: 'with --spectrum: file for the curves of all layers' },
  dtype: {
    type: 'string',
    description: "with --spectrum: precision of the weights, as transformers.js names it (default: the model's own)",
  },
} as const satisfies ArgsDef;

export const inspectCommand = defineCommand({
  meta: { name: 'inspect', description: 'show what a decoder caches and how it would be packed' },
  args: {
    model: {
      type: 'positional',
      required: false,
      description: "model folder, or a decoder .onnx file; 'embedded' (pack-mha) or 'pack-gqa' for those in the package",
    },
    spectrum: {
      type: 'boolean',
      description: 'run the model over pictures and tell how low-rank its keys and values are: lost energy against rank',
    },
    ...spectrumArgs,
    ...jsonArg,
  },
  run: ({ args, rawArgs }) =>
    guarded(async () => {
      const model = modelNamed(args.model);
      if (args.spectrum) {
        const [, unexpected] = args._;
        if (unexpected !== undefined)
          throw new AttentionPackError(`inspect takes one model; got '${unexpected}' too: name pictures with --image`);
        const { text, layers, svg, dtype, clip } = args;
        const { inspectSpectrum } = await import('./spectrum.ts');
        return inspectSpectrum(model, { images: valuesOf('image', rawArgs), clip, text, layers, svg, dtype, json: Boolean(args.json) });
      }
      const alone = Object.keys(spectrumArgs).find((name) => args[name as keyof typeof spectrumArgs] !== undefined);
      if (alone) throw new AttentionPackError(`--${alone} goes with --spectrum only`);
      const file = decoderFile(model);
      const { shape, report } = rewrite(readModel(file));
      const bytes = denseTokenBytes(shape);
      const groups = new Map<string, number[]>();
      for (const layer of shape.layers) {
        const key = JSON.stringify([layer.numHeads, layer.numKvHeads, layer.headDim, layer.localWindow ?? null, layer.rotary]);
        groups.set(key, [...(groups.get(key) ?? []), layer.index]);
      }
      printTable(
        ['layers', 'heads', 'key/value heads', 'head dimension', 'width W', 'local window', 'rotary'],
        [...groups].map(([key, layers]) => {
          const [heads, kvHeads, dim, local, rotary] = JSON.parse(key) as [number, number, number, number | null, string];
          return [ranges(layers), heads, kvHeads, dim, kvHeads * dim, local ?? 'none', `${rotary} the node`];
        }),
      );
      console.log(`dense fp16 cache: ${prettyBytes(bytes)} per token, ${prettyBytes(bytes * 8192)} at 8192 tokens`);
      console.log(
        report.refused.length
          ? `cannot be packed: ${report.refused.map((refusal) => `${refusal.node}: ${refusal.reason}`).join('; ')}`
          : `can be packed: ${report.rewritten} attention nodes, ${report.rotary}, ${report.nodesBefore} graph nodes become ${report.nodesAfter}`,
      );
      if (args.json) printJson({ file, denseFp16BytesPerToken: bytes, layers: shape.layers, ...report });
    }),
});

/** Every value of an option that may be given several times; the parser keeps the last only. */
function valuesOf(name: string, rawArgs: readonly string[]): string[] {
  return rawArgs.flatMap((arg, i) => {
    if (arg.startsWith(`--${name}=`)) return [arg.slice(name.length + 3)];
    return arg === `--${name}` && rawArgs[i + 1] !== undefined ? [rawArgs[i + 1] as string] : [];
  });
}

/** The decoder of a model folder (the smallest precision first, since only the graph is read), or the file itself. */
export function decoderFile(model: string): string {
  if (!existsSync(model)) throw new AttentionPackError(`'${model}' does not exist; give a model folder or a decoder .onnx file`);
  if (statSync(model).isFile()) return model;
  const folder = existsSync(path.join(model, 'onnx')) ? path.join(model, 'onnx') : model;
  const decoders = readdirSync(folder).filter((name) => /^(decoder_model_merged|model)(_\w+)?\.onnx$/.test(name));
  const [first] = decoders.sort((a, b) => statSync(path.join(folder, a)).size - statSync(path.join(folder, b)).size);
  if (!first) throw new AttentionPackError(`${folder} has no decoder_model_merged*.onnx or model*.onnx`);
  return path.join(folder, first);
}

/** [0, 1, 2, 5] -> "0-2, 5". */
function ranges(indices: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const index of indices) {
    const last = runs.at(-1);
    if (last && last[1] === index - 1) last[1] = index;
    else runs.push([index, index]);
  }
  return runs.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ');
}
