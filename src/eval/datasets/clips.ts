/** Finds the clips of a video dataset: files or folders of frames, by the names they go under. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { VIDEO_ENDINGS } from './frames.ts';
import { kindOf, misplaced, type Place } from './place.ts';

export interface Clip {
  /** Relative to the dataset's folder. */
  readonly path: string;
  readonly kind: 'video' | 'frames';
}

/** Folders in which the datasets' own archives and Video-LLaVA's form keep their clips. */
export const CLIP_FOLDERS = ['.', 'videos', 'video', 'YouTubeClips', 'TestVideo', 'TrainValVideo', 'all', 'frames'];

/** Looks up clips by any of their names, a folder of frames before a video of the same name. */
export function clipFinder(place: Place): (names: readonly string[]) => Clip | undefined {
  const found = new Map<string, Clip>();
  for (const folder of CLIP_FOLDERS) {
    if (kindOf(path.join(place.folder, folder)) !== 'folder') continue;
    for (const entry of readdirSync(path.join(place.folder, folder), { withFileTypes: true })) {
      const at = path.posix.join(folder, entry.name);
      const { name, ext } = path.parse(entry.name);
      if (entry.isDirectory() || (entry.isSymbolicLink() && kindOf(path.join(place.folder, at)) === 'folder'))
        found.set(entry.name, { path: at, kind: 'frames' });
      else if (VIDEO_ENDINGS.some((ending) => ending === ext.toLowerCase()) && found.get(name)?.kind !== 'frames')
        found.set(name, { path: at, kind: 'video' });
    }
  }
  return (names) => names.map((name) => found.get(name)).find((clip) => clip !== undefined);
}

/**
 * Names of MSVD's clips on YouTube by their number in the questions, from `youtube_mapping.txt` ("-4wsuPCjDBc_5_15 vid1" a line); empty without it.
 */
export function youtubeNames(place: Place): Map<string, string> {
  const file = path.join(place.folder, 'youtube_mapping.txt');
  if (kindOf(file) !== 'file') return new Map();
  const names = new Map<string, string>();
  for (const [i, line] of readFileSync(file, 'utf8').split('\n').entries()) {
    if (!line.trim()) continue;
    const [youtube, vid, ...more] = line.trim().split(/\s+/);
    if (!youtube || !vid || more.length) throw misplaced(place, `youtube_mapping.txt, line ${i + 1}: '${line.trim()}', wanted two names`);
    names.set(vid, youtube);
  }
  return names;
}
