/** Frames of a clip, spread evenly: from a folder of pictures, or from a video file by the `ffmpeg` on PATH. */
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import type { RawImage } from '@huggingface/transformers';
import { decoded, pictureFile } from './picture.ts';
import { misplaced, type Place } from './place.ts';

export const VIDEO_ENDINGS = ['.mp4', '.avi', '.mkv', '.mov', '.webm'] as const;
const PICTURE = /\.(jpe?g|png|webp)$/i;

const run = promisify(execFile);

/**
 * Which `count` of `total` frames are taken: evenly from the first to the last, rounded down, as Video-LLaVA does (numpy's linspace); the middle
 * one for a count of 1. A clip shorter than `count` gives frames more than once.
 */
export function evenly(total: number, count: number): number[] {
  if (count === 1) return [Math.floor((total - 1) / 2)];
  return Array.from({ length: count }, (_, i) => Math.floor((i * (total - 1)) / (count - 1)));
}

/** @throws {AttentionPackError} if `ffmpeg` cannot be run */
export function checkFfmpeg(place: Place): void {
  if (spawnSync('ffmpeg', ['-version']).status === 0) return;
  throw misplaced(
    place,
    "clips are video files, and there is no 'ffmpeg' on PATH; install it, or put each clip's frames as pictures into a folder of its name",
  );
}

/**
 * Frames of a folder of pictures, in the order of their names ("2.jpg" before "10.jpg").
 *
 * @param folder relative to the dataset's
 */
export async function framesOfFolder(place: Place, folder: string, count: number): Promise<RawImage[]> {
  const files = readdirSync(path.join(place.folder, folder)).filter((file) => PICTURE.test(file));
  if (!files.length) throw misplaced(place, `folder ${folder} has no frames (.jpg, .png, .webp)`);
  const { compare } = new Intl.Collator('en', { numeric: true });
  files.sort(compare);
  return Promise.all(evenly(files.length, count).map((index) => pictureFile(place, path.posix.join(folder, files[index] as string))));
}

/**
 * Frames of a video file: counted by decoding it once, then the chosen ones decoded.
 *
 * @param file relative to the dataset's folder
 */
export async function framesOfVideo(place: Place, file: string, count: number): Promise<RawImage[]> {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'attentionpack-frames-'));
  try {
    const total = await countFrames(place, file);
    const indices = evenly(total, count);
    const different = [...new Set(indices)];
    const select = `select=${different.map((index) => `eq(n\\,${index})`).join('+')}`;
    // Pixels as they are shown: png is exact, so no second loss comes on top of the video's own.
    await ffmpeg(place, file, ['-vf', select, '-fps_mode', 'passthrough', path.join(folder, '%d.png')]);
    return await Promise.all(
      indices.map(async (index) =>
        decoded(place, `${file}, frame ${index}`, await readFile(path.join(folder, `${different.indexOf(index) + 1}.png`))),
      ),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function countFrames(place: Place, file: string): Promise<number> {
  const report = await ffmpeg(place, file, ['-fps_mode', 'passthrough', '-progress', 'pipe:1', '-f', 'null', '-']);
  const counts = [...report.matchAll(/^frame=\s*(\d+)/gm)];
  const total = Number(counts.at(-1)?.[1] ?? 0);
  if (!total) throw misplaced(place, `${file} has no frame that ffmpeg can decode`);
  return total;
}

/** Runs ffmpeg on the first video stream of a file; what it writes to standard output. */
async function ffmpeg(place: Place, file: string, output: readonly string[]): Promise<string> {
  const input = ['-v', 'error', '-nostdin', '-i', path.join(place.folder, file), '-map', '0:v:0'];
  try {
    return (await run('ffmpeg', [...input, ...output])).stdout;
  } catch (cause) {
    const said = (cause as { stderr?: string }).stderr?.trim().split('\n')[0] ?? (cause as Error).message;
    throw misplaced(place, `ffmpeg cannot read ${file}: ${said}`, cause);
  }
}
