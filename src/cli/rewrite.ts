/** `attentionpack rewrite <model | decoder.onnx>`: whether every attention node can be packed, why not, and the packed decoder as a file. */
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { defineCommand } from 'citty';
import { AttentionPackError } from '../errors.ts';
import { linkExternalData, type ModelFile, readModel, writeModel } from '../onnx/index.ts';
import { oneOf } from '../options.ts';
import { PROVIDERS, type RewriteReport, rewrite } from '../rewrite.ts';
import { BASIS_TYPES, CODE_TYPES, ROTARY_MODES } from '../shape.ts';
import { jsonArg, needed, packingArgs } from './args.ts';
import { decoderFile } from './inspect.ts';
import { guarded, printJson, printTable } from './output.ts';

export const rewriteCommand = defineCommand({
  meta: { name: 'rewrite', description: 'turn every attention node of a decoder into packed attention, or say why not' },
  args: {
    model: { type: 'positional', required: false, description: 'model folder, or a decoder .onnx file' },
    why: { type: 'boolean', description: 'list every refused node with its reason' },
    out: { type: 'string', description: 'folder or .onnx file to write the packed decoder to; external data is linked beside it' },
    rotary: packingArgs.rotary,
    codes: packingArgs.codes,
    basis: packingArgs.basis,
    provider: { type: 'string', description: `execution provider to write for: ${PROVIDERS.join(', ')} (default: cpu)` },
    ...jsonArg,
  },
  run: ({ args }) =>
    guarded(async () => {
      const file = decoderFile(needed('model', args.model));
      const { model, report } = rewrite(readModel(file), {
        ...(args.rotary === undefined ? {} : { rotary: oneOf('--rotary', args.rotary, ROTARY_MODES) }),
        ...(args.codes === undefined ? {} : { codes: oneOf('--codes', args.codes, CODE_TYPES) }),
        ...(args.basis === undefined ? {} : { basis: oneOf('--basis', args.basis, BASIS_TYPES) }),
        ...(args.provider === undefined ? {} : { provider: oneOf('--provider', args.provider, PROVIDERS) }),
      });
      console.log(`${file}: ${summary(report)}`);
      if (args.why && report.refused.length) {
        printTable(
          ['node', 'reason'],
          report.refused.map(({ node, reason }) => [node, reason]),
        );
      }
      if (args.out !== undefined && !report.refused.length) console.log(`written to ${await save(model, args.out)}`);
      if (report.refused.length) process.exitCode = 2;
      if (args.json) printJson({ rewritten: report.rewritten, refused: report.refused, rotary: report.rotary, nodes: report.nodesAfter });
    }),
});

function summary({ rewritten, refused, rotary, nodesBefore, nodesAfter }: RewriteReport): string {
  if (!refused.length) return `${rewritten} attention nodes rewritten, ${rotary}; ${nodesBefore} graph nodes become ${nodesAfter}`;
  const more = refused.length > 1 ? ` (and ${refused.length - 1} more; --why lists all)` : '';
  return `not rewritten, since a model is packed whole or not at all: ${refused[0]?.node}: ${refused[0]?.reason}${more}`;
}

/** Writes the packed decoder with its weights at hand; resolves to the file. */
async function save(model: ModelFile, out: string): Promise<string> {
  const target = out.endsWith('.onnx') ? out : path.join(out, path.basename(model.path));
  if (existsSync(target)) throw new AttentionPackError(`${target} exists; remove it or choose another --out`);
  const folder = path.dirname(path.resolve(target));
  mkdirSync(folder, { recursive: true });
  linkExternalData(model, folder, 'copy'); // first: a model without its weights is not worth writing
  await writeModel(model, target);
  return target;
}
