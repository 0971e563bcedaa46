/** MSVD-QA and MSRVTT-QA (Xu et al., ACM MM 2017): short answers about clips, as contexts of evenly spread frames. */
import { exactMatch } from '../metrics.ts';
import type { Context } from '../task.ts';
import { CLIP_FOLDERS, type Clip, clipFinder, youtubeNames } from './clips.ts';
import { checkOptions, chosen, type Dataset, type DatasetOptions, datasetTask, SHORT_ANSWER } from './dataset.ts';
import { checkFfmpeg, framesOfFolder, framesOfVideo } from './frames.ts';
import { checkFolder, misplaced, type Place } from './place.ts';
import { type ClipQuestion, clipQuestions } from './video-questions.ts';

const DEFAULT_FRAMES = 8;

/**
 * Papers on video language models, AttentionPack's among them, often have GPT judge these answers, which forgives wording ("a man" for "person") and
 * gives higher figures. We take exact match after normalisation, the datasets' own metric: it needs no service and repeats.
 */
function videoQa(name: string, about: string, files: string, numbered: string): Dataset {
  return {
    about,
    files,
    async open(folder, options = {}) {
      checkOptions(options);
      const place: Place = { dataset: name, folder };
      checkFolder(place);
      const clips = [...groupedByClip(await clipQuestions(place, options.split ?? 'test'))];
      const taken = chosen(clips.length, options).map((index) => clips[index] as [string, ClipQuestion[]]);
      const contexts = located(place, taken, numbered).map(([clip, questions]) => contextOf(place, clip, questions, options));
      return datasetTask({ name, about, metricName: 'exact match', metric: exactMatch, maxNewTokens: 16 }, contexts);
    },
  };
}

export const msvdQa: Dataset = videoQa(
  'msvd-qa',
  'short clips with about 25 questions each, answered in a word; exact match',
  'test_qa.json with youtube_mapping.txt, or test_q.json and test_a.json, or test-*.parquet; clips in videos/, YouTubeClips/ or frames/<clip>/',
  'vid',
);

export const msrvttQa: Dataset = videoQa(
  'msrvtt-qa',
  'clips of 10 to 30 seconds with about 24 questions each, answered in a word; exact match',
  'test_qa.json, or test_q.json and test_a.json, or test-*.parquet; clips in videos/, TestVideo/ or frames/<clip>/',
  'video',
);

/** Clips in the order they are first asked about. */
function groupedByClip(questions: readonly ClipQuestion[]): Map<string, ClipQuestion[]> {
  const clips = new Map<string, ClipQuestion[]>();
  for (const question of questions) {
    const one = clips.get(question.clip);
    if (one) one.push(question);
    else clips.set(question.clip, [question]);
  }
  return clips;
}

/**
 * Finds all clips before the first is asked about: a run of hours should not end at a missing one.
 *
 * @param numbered what stands before a clip's number in its file's name
 */
function located(place: Place, clips: readonly [string, ClipQuestion[]][], numbered: string): [Clip, ClipQuestion[]][] {
  const find = clipFinder(place);
  const youtube = youtubeNames(place);
  const namesOf = (clip: string, isNumbered: boolean): string[] => {
    const name = isNumbered ? `${numbered}${clip}` : clip;
    return [name, youtube.get(name)].filter((known) => known !== undefined);
  };
  const missing: string[] = [];
  const found: [Clip, ClipQuestion[]][] = [];
  for (const [name, questions] of clips) {
    const names = namesOf(name, questions[0]?.isNumbered ?? false);
    const clip = find(names);
    if (clip) found.push([clip, questions]);
    else missing.push(names.join(' or '));
  }
  if (missing.length)
    throw misplaced(
      place,
      `${missing.length} of ${clips.length} clips are missing, the first is ${missing[0]}; looked in ${CLIP_FOLDERS.join(', ')}`,
    );
  if (found.some(([clip]) => clip.kind === 'video')) checkFfmpeg(place);
  return found;
}

function contextOf(
  place: Place,
  clip: Clip,
  questions: readonly ClipQuestion[],
  { frames = DEFAULT_FRAMES, questions: most }: DatasetOptions,
): Context {
  const read = clip.kind === 'video' ? framesOfVideo : framesOfFolder;
  return {
    id: (questions[0] as ClipQuestion).clip,
    numImages: frames,
    isClip: true,
    images: () => read(place, clip.path, frames),
    questions: questions.slice(0, most).map(({ question, answer }) => ({
      text: `${question}\n${SHORT_ANSWER}`,
      answers: [answer],
      // What, who, how, when, where: the kinds the datasets' authors report by.
      kind: question.trim().split(/\s+/)[0]?.toLowerCase() ?? '',
    })),
  };
}
