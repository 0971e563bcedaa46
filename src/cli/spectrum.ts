/**
 * `attentionpack inspect <model> --spectrum`: how low-rank a model's keys and values are over given pictures and text: lost energy against rank, for
 * each layer, before and after rotary embedding, for images and text apart, heads combined and alone.
 *
 * The figures of the embedded model, again: `attentionpack inspect embedded --spectrum --svg models/pack-mha/spectrum.svg`.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { AttentionPackError } from '../errors.ts';
import { prompt, question } from '../prompt.ts';
import { GROUPS, type Group, measureSpectra, type SideSpectra, type SpectrumReport } from '../spectrum/measure.ts';
import { SIDE_NAMES, spectrumSvg } from '../spectrum/plot.ts';
import { collectRows, SIDES } from '../spectrum/rows.ts';
import { type Needed, TARGETS } from '../spectrum/spectrum.ts';
import { dtypeOption, loadPacked, readImages } from './models.ts';
import { colours, Progress, printJson, printTable } from './output.ts';

export interface SpectrumOptions {
  readonly images: readonly string[];
  /** Whether the images are frames of one clip. Default false. */
  readonly clip?: boolean | undefined;
  readonly text?: string | undefined;
  readonly layers?: string | undefined;
  readonly svg?: string | undefined;
  readonly dtype?: string | undefined;
  readonly json: boolean;
}

/** @throws {AttentionPackError} for a model, pictures, layers or a file that are not as they should be */
export async function inspectSpectrum(model: string, options: SpectrumOptions): Promise<void> {
  const layers = options.layers === undefined ? undefined : layerIndices(options.layers);
  const svg = options.svg === undefined ? undefined : svgFile(options.svg);
  const dtype = dtypeOption(model, options.dtype);
  const demo = demoOf(model);
  const files = options.images.length ? options.images.flatMap(pictureFiles) : (demo?.images ?? []);
  if (!files.length)
    throw new AttentionPackError(`no images given, and ${model} has no demo pictures; name pictures or a folder with --image`);
  const images = await readImages(files);
  const text = options.text ?? demo?.text ?? 'Describe the images.';

  const progress = new Progress();
  progress.update('loading the model');
  const { packed, processor } = await loadPacked(model, { ...dtype, rawKeys: true, rank: 8 });
  const begun = performance.now();
  let report: SpectrumReport;
  try {
    progress.update(`running ${images.length} ${images.length === 1 ? 'image' : 'images'} through the decoder`);
    const rows = await collectRows(
      packed,
      await prompt(processor, [question(text, images.length, { clip: options.clip ?? false })], images),
      layers,
    );
    const start = performance.now();
    report = await measureSpectra(rows, (done, of) => {
      const seconds = done ? ((performance.now() - start) / 1000 / done) * (of - done) : undefined;
      progress.update(`spectrum ${done + 1} of ${of}${seconds === undefined ? '' : `, about ${Math.ceil(seconds)} s left`}`);
    });
  } finally {
    await packed.dispose();
    progress.done();
  }
  const name = path.basename(path.resolve(model));
  printSpectra(report);
  if (svg) {
    write(svg, `${await spectrumSvg(report, `${name}: lost energy of keys and values against rank`)}\n`);
    console.log(`curves of all layers: ${svg}`);
  }
  const seconds = (performance.now() - begun) / 1000;
  if (options.json) printJson({ model: name, pictures: files.map((file) => path.basename(file)), text, seconds, ...report });
}

const TABLE_HEAD = ['layer', 'each image', 'bytes', 'all images', 'bytes', 'text', 'bytes', 'images, sampled'];

/** A table for each side, a row for each layer and their mean. */
function printSpectra(report: SpectrumReport): void {
  for (const side of SIDES) {
    const measured = report.layers.flatMap(({ layer, sides }) => (sides[side] ? [{ layer: String(layer), spectra: sides[side] }] : []));
    if (!measured.length) continue;
    console.log(colours.bold(SIDE_NAMES[side]));
    const rows = measured.map(({ layer, spectra }) => [layer, ...cells([spectra])]);
    printTable(TABLE_HEAD, [...rows, ['mean', ...cells(measured.map(({ spectra }) => spectra))]]);
  }
  const { images, imageTokens, textTokens, layers } = report;
  console.log(
    [
      `${images} ${images === 1 ? 'image' : 'images'} with ${imageTokens} tokens, ${textTokens} tokens of text; sampled: as many image tokens as text, evenly spread.`,
      'Columns: the rank that loses 10 / 5 / 1 % of the energy, heads combined. Bytes: codes and basis at 1 % lost as a share of the dense ones',
      'in the same element type, heads combined / each head alone.',
      meanTokens(report),
    ].join('\n'),
  );
  if (!layers.some((layer) => layer.sides.keysBeforeRotary)) {
    console.log(
      'Keys before rotary embedding cannot be seen: this decoder rotates them before its attention nodes, and not in RotaryEmbedding nodes.',
    );
  }
}

/** Ranks and bytes of every group, the mean over layers. */
function cells(layers: readonly SideSpectra[]): string[] {
  return GROUPS.flatMap((group) => {
    const mean = (of: (needed: readonly Needed[]) => number | undefined): number =>
      layers.reduce((sum, spectra) => sum + (of(spectra[group].needed) ?? 0), 0) / layers.length;
    const ranks = TARGETS.map((_, i) => decimal(mean((needed) => needed[i]?.rank))).join(' / ');
    const held = (100 * mean((needed) => needed.at(-1)?.held)).toFixed(0);
    const heads = (100 * mean((needed) => needed.at(-1)?.headsHeld)).toFixed(0);
    return group === 'sampledImages' ? [ranks] : [ranks, `${held} / ${heads} %`];
  });
}

/** How much of the energy is the same in every token. A part of the keys that all tokens share shifts all scores alike, and softmax does not see it. */
function meanTokens({ layers }: SpectrumReport): string {
  const shares = SIDES.flatMap((side) => {
    const measured = layers.flatMap((layer) => layer.sides[side] ?? []);
    const percent = (group: Group): string =>
      (100 * (measured.reduce((sum, spectra) => sum + spectra[group].meanShare, 0) / measured.length)).toFixed(0);
    return measured.length ? [`${SIDE_NAMES[side]} ${percent('eachImage')} / ${percent('allImages')} %`] : [];
  });
  return `Share of energy in the mean token, of each image / of all images: ${shares.join(', ')}.`;
}

function decimal(value: number): string {
  return value >= 10 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

function layerIndices(text: string): number[] {
  return text.split(',').map((part) => {
    if (!/^\d+$/.test(part.trim()))
      throw new AttentionPackError(`--layers takes layer numbers with commas between, such as 0,15,31; got '${text}'`);
    return Number(part);
  });
}

/** Checked before minutes of work, not after. */
function svgFile(file: string): string {
  if (!file.endsWith('.svg')) throw new AttentionPackError(`--svg takes a file name that ends in .svg; got '${file}'`);
  if (existsSync(file) && !statSync(file).isFile()) throw new AttentionPackError(`--svg ${file} is not a file`);
  try {
    mkdirSync(path.dirname(path.resolve(file)), { recursive: true });
  } catch (cause) {
    throw new AttentionPackError(`--svg ${file}: its folder cannot be made: ${(cause as Error).message}`, { cause });
  }
  return file;
}

function write(file: string, text: string): void {
  try {
    writeFileSync(file, text);
  } catch (cause) {
    throw new AttentionPackError(`${file} cannot be written: ${(cause as Error).message}`, { cause });
  }
}

const PICTURE = /\.(png|jpe?g|webp|gif|avif|tiff?|svg)$/i;

/** A picture itself, or the pictures in a folder by name. */
function pictureFiles(file: string): string[] {
  if (!existsSync(file) || !statSync(file).isDirectory()) return [file];
  const names = readdirSync(file).filter((name) => PICTURE.test(name));
  if (!names.length) throw new AttentionPackError(`folder '${file}' has no PNG, JPEG, WebP, GIF, AVIF, TIFF or SVG file`);
  return names.sort().map((name) => path.join(file, name));
}

/** The pictures and questions that lie with a model, in `demo/questions.json`. */
function demoOf(model: string): { images: string[]; text: string } | undefined {
  const folder = path.join(model, 'demo');
  const file = path.join(folder, 'questions.json');
  if (!existsSync(file)) return undefined;
  try {
    const demo = JSON.parse(readFileSync(file, 'utf8')) as { images: { file: string }[]; questions: { question: string }[] };
    return {
      images: demo.images.map((image) => path.join(folder, image.file)),
      text: demo.questions.map((entry) => entry.question).join(' '),
    };
  } catch (cause) {
    throw new AttentionPackError(`${file} has no 'images' and 'questions' to take by default: ${(cause as Error).message}`, { cause });
  }
}
