/** How commands speak: tables and progress for people on stderr and stdout, one JSON line last for programs, one line for errors. */
import Table from 'cli-table3';
import pc from 'picocolors';
import { AttentionPackError } from '../errors.ts';

/** Exit code for a mistake of the caller's. */
const CALLER_ERROR = 2;

const CLEAR_LINE = '\r\x1b[2K';

/** Prints a table on stdout. */
export function printTable(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  const table = new Table({ head: head.map((cell) => pc.bold(cell)), style: { head: [], border: [] } });
  table.push(...rows.map((row) => row.map(String)));
  console.log(table.toString());
}

/** Prints the machine-readable result; call it last, so that it is the last line of stdout. */
export function printJson(result: unknown): void {
  console.log(JSON.stringify(result));
}

/** Progress on stderr: rewritten in place on a terminal, a line at most every five seconds, and none before that, elsewhere. */
export class Progress {
  readonly #isLive = process.stderr.isTTY === true;
  #lastLine = Date.now();
  #open = false;

  update(text: string): void {
    if (this.#isLive) {
      process.stderr.write(`${CLEAR_LINE}${pc.dim(text)}`);
      this.#open = true;
    } else if (Date.now() - this.#lastLine > 5000) {
      process.stderr.write(`${text}\n`);
      this.#lastLine = Date.now();
    }
  }

  done(): void {
    if (this.#open) process.stderr.write(CLEAR_LINE);
    this.#open = false;
  }
}

/** Runs a command; a caller's mistake becomes one line on stderr and exit code 2, our own bugs keep their stack and exit with 1. */
export async function guarded(run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (process.stderr.isTTY) process.stderr.write(CLEAR_LINE); // progress that was under way
    if (error instanceof AttentionPackError) {
      process.stderr.write(`${pc.red('error:')} ${error.message}\n`);
      process.exitCode = CALLER_ERROR;
    } else {
      process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
      process.exitCode = 1;
    }
  }
}
