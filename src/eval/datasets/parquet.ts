/** Rows of parquet files, without reading the pictures of all others (hyparquet). */
import path from 'node:path';
import {
  type AsyncBuffer,
  asyncBufferFromFile,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { type Fields, fieldsOf } from './fields.ts';
import { misplaced, type Place } from './place.ts';

/** Rows of several files, one after the other. */
export interface Table {
  readonly numRows: number;
  /** Columns that all files have. */
  readonly columns: readonly string[];
  /** Rows in ascending order, with these columns only. Each row group that holds one of them is read once. */
  rows(indices: readonly number[], columns: readonly string[]): Promise<Fields[]>;
  /**
   * One value of a column of pictures. The column's part in the row group, 100 to 1000 pictures as Hugging Face writes them, is kept until a row of
   * another group is asked for. (Reading single pages by a page index would not help: pyarrow ends a page after 1024 rows at the earliest.)
   */
  cell(index: number, column: string): Promise<unknown>;
}

interface Shard {
  /** Relative to the dataset's folder. */
  readonly name: string;
  readonly file: AsyncBuffer;
  readonly metadata: FileMetaData;
  readonly columns: readonly string[];
}

interface Group {
  readonly shard: Shard;
  readonly numRows: number;
  /** First row, over all files and in its own. */
  readonly start: number;
  readonly startInFile: number;
}

/**
 * Opens parquet files; reads their footers only.
 *
 * @param files relative to the dataset's folder
 * @param columns columns each must have
 * @throws {AttentionPackError} if a file is not parquet or lacks a column
 */
export async function openTable(place: Place, files: readonly string[], columns: readonly string[]): Promise<Table> {
  const shards = await Promise.all(files.map((name) => openShard(place, name, columns)));
  const groups = groupsOf(shards);
  const groupOf = (index: number): Group => groups.find(({ start, numRows }) => index < start + numRows) as Group;
  let kept: { group: Group; columns: Map<string, Promise<Row[]>> } | undefined;

  return {
    numRows: groups.reduce((sum, group) => sum + group.numRows, 0),
    columns: shards[0]?.columns.filter((column) => shards.every((shard) => shard.columns.includes(column))) ?? [],
    async rows(indices, wanted) {
      const rows: Fields[] = [];
      let read: { group: Group; all: Row[] } | undefined;
      for (const index of indices) {
        const group = groupOf(index);
        if (read?.group !== group) read = { group, all: await readGroup(place, group, wanted) };
        rows.push(fieldsOf(place, whereabouts(group, index), read.all[index - group.start]));
      }
      return rows;
    },
    async cell(index, column) {
      const group = groupOf(index);
      const offset = index - group.start;
      if (kept?.group !== group) kept = { group, columns: new Map() };
      const rows = kept.columns.get(column) ?? readGroup(place, group, [column]);
      kept.columns.set(column, rows);
      return (await rows)[offset]?.[column];
    },
  };
}

type Row = Record<string, unknown>;

async function openShard(place: Place, name: string, columns: readonly string[]): Promise<Shard> {
  const file = await asyncBufferFromFile(path.join(place.folder, name));
  const metadata = await parquetMetadataAsync(file).catch((cause) => {
    throw unreadable(place, name, cause);
  });
  const has = parquetSchema(metadata).children.map((child) => child.element.name);
  const missing = columns.filter((column) => !has.includes(column));
  if (missing.length)
    throw misplaced(place, `${name} has no column ${missing.map((column) => `'${column}'`).join(', ')}; it has ${has.join(', ')}`);
  return { name, file, metadata, columns: has };
}

function groupsOf(shards: readonly Shard[]): Group[] {
  const groups: Group[] = [];
  let start = 0;
  for (const shard of shards) {
    const startOfFile = start;
    for (const { num_rows } of shard.metadata.row_groups) {
      groups.push({ shard, numRows: Number(num_rows), start, startInFile: start - startOfFile });
      start += Number(num_rows);
    }
  }
  return groups;
}

async function readGroup(place: Place, { shard, numRows, startInFile }: Group, columns: readonly string[]): Promise<Row[]> {
  try {
    return await parquetReadObjects({
      file: shard.file,
      metadata: shard.metadata,
      columns: [...columns],
      rowStart: startInFile,
      rowEnd: startInFile + numRows,
      compressors,
      utf8: false, // texts are marked as such; bytes that are not are a picture's
    });
  } catch (cause) {
    throw unreadable(place, shard.name, cause);
  }
}

function whereabouts({ shard, start, startInFile }: Group, index: number): string {
  return `${shard.name}, row ${index - start + startInFile}`;
}

function unreadable(place: Place, name: string, cause: unknown): Error {
  return misplaced(place, `${name} cannot be read as parquet: ${String((cause as Error).message).split('\n')[0]}`, cause);
}
