import { accessSync, constants } from 'node:fs';
import { isInstalled } from './command.js';

/** What a test needs from the machine it runs on. */
export interface Requirements {
  /** Mounting and loop devices. */
  readonly root?: boolean;
  /** `/dev/fuse`. */
  readonly fuse?: boolean;
  readonly commands?: readonly string[];
}

/** Options for `t.test`: the reason to skip it here, or none. */
export function needs(requirements: Requirements): { skip: string | false } {
  if (requirements.root === true && process.getuid?.() !== 0) return { skip: 'needs root' };
  if (requirements.fuse === true && !canOpen('/dev/fuse')) return { skip: 'needs /dev/fuse' };
  const missing = (requirements.commands ?? []).filter((command) => !isInstalled(command));
  if (missing.length > 0) return { skip: `needs ${missing.join(', ')} (make deps-test)` };
  return { skip: false };
}

function canOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false; // absent or not ours: the answer either way
  }
}
