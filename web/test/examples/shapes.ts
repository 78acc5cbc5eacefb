import type { Block, DocumentChange as OurChange, PollingManager as OurManager, Turn as OurTurn } from '../../src/index.js'
import { pollingManager } from '../../src/index.js'
import type {
  UseDocumentPollingOptions as OurDocumentOptions,
  UseSessionPollingOptions as OurSessionOptions,
  TurnStatus as OurStatus
} from '../../src/react/index.js'

// Unchanged from the specification, up to the end mark.
interface UseSessionPollingOptions {
  sessionId: string;
  turnId?: string;
  enabled?: boolean;
  interval?: number; // default: 2000ms
  onUpdate?: (turn: Turn) => void;
  onComplete?: (turn: Turn) => void;
  onError?: (error: Error) => void;
}

type TurnStatus = 'pending' | 'running' | 'completed' | 'failed';

interface Turn {
  id: string;
  status: TurnStatus;
  blocks: Block[];
  error?: string;
  started_at?: Date;
  completed_at?: Date;
}

interface UseDocumentPollingOptions {
  projectId: string;
  filePaths?: string[]; // Specific files to monitor
  enabled?: boolean;
  interval?: number; // default: 3000ms
  onDocumentChange?: (changes: DocumentChange[]) => void;
}

interface DocumentChange {
  filePath: string;
  lastModified: Date;
  changeType: 'created' | 'modified' | 'deleted';
}
// End mark.

/** A turn can also be cancelled; otherwise both types are the same. */
type Cancellable = Omit<Turn, 'status'> & { status: TurnStatus | 'cancelled' }
type Widened = Omit<UseSessionPollingOptions, 'onUpdate' | 'onComplete'> & {
  onUpdate?: (turn: Cancellable) => void
  onComplete?: (turn: Cancellable) => void
}

export const turn = (ours: OurTurn): Cancellable => ours
export const status = (theirs: TurnStatus): OurStatus => theirs
export const change = (ours: OurChange): DocumentChange => ours
export const sessionOptions = (theirs: Widened): OurSessionOptions => theirs
export const documentOptions = (theirs: UseDocumentPollingOptions): OurDocumentOptions => theirs

/** The calls of the manager are those of the specification. */
export function manage(manager: OurManager = pollingManager, pollFn: () => Promise<void>): void {
  manager.register('key', pollFn, 1_000)
  manager.pause()
  manager.resume()
  manager.unregister('key')
}
