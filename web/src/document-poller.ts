import { isProblem } from './errors.js'
import { type PollingManager, pollingManager } from './manager.js'
import type { StopReason } from './policy.js'
import type { Project } from './project.js'
import { joinFeed } from './project-feed.js'
import type { PollFunction, Subscription } from './subscription.js'
import type { PollerOptions } from './turn-poller.js'
import type { ChangeType, FileChange } from './wire.js'

/** A file that changed: its newest state. */
export interface DocumentChange {
  filePath: string
  lastModified: Date
  version: number
  changeType: ChangeType
}

export interface DocumentPollerOptions extends PollerOptions {
  /** Where to begin; left out: now. */
  since?: string | null | undefined
}

/** Where a project that does not exist yet begins. */
const BEGINNING = ''

/** Follows which of a project's files change. */
export class DocumentPoller {
  /** What the polls are registered as. */
  readonly key: string
  private readonly manager: PollingManager
  private readonly subscription: Subscription<FileChange[]>
  private readonly leaveFeed: () => void

  /**
   * @param paths the files to follow; null: all of the project.
   * @param onChange called with each change, in order.
   */
  constructor(
    project: Project,
    paths: readonly string[] | null,
    onChange: (change: DocumentChange) => unknown,
    options: DocumentPollerOptions = {}
  ) {
    const { manager = pollingManager, transport = 'poll', since, interval } = options
    this.manager = manager
    const wanted = paths === null ? null : [...new Set(paths)].sort()
    this.key = ['files', project.url, since ?? '', ...(wanted ?? ['*/'])].join(' ')
    const past = manager.latest(this.key)
    const onResult = async (changes: FileChange[]) => {
      if (changes === past) return
      for (const change of changes ?? []) await onChange(documentChange(change))
    }
    const poll = pollFiles(project, wanted)
    this.subscription = manager.register(this.key, poll, interval, { ...options, onResult, cursor: since })
    const files = wanted && new Set(wanted)
    this.leaveFeed = joinFeed(
      manager,
      project,
      transport,
      this.key,
      (entry) => entry.kind === 'file' && (files === null || files.has(entry.path))
    )
  }

  /** The last error, until something succeeds. */
  get error(): Error | null {
    return this.subscription.error
  }

  /** Why it is not polled any more; null if it is. */
  get stopped(): StopReason | null {
    return this.subscription.stopped
  }

  /** Hold still, or go on. */
  enable(enabled: boolean): void {
    this.subscription.enable(enabled)
  }

  /** Ask now; what changed is told as always. */
  async refresh(): Promise<void> {
    await this.manager.refresh(this.key)
  }

  /** End it: its request is aborted, and nothing is called back. */
  stop(): void {
    this.leaveFeed()
    this.subscription.unregister()
  }
}

function documentChange({ path, last_modified, version, change_type }: FileChange): DocumentChange {
  return { filePath: path, lastModified: new Date(last_modified), version, changeType: change_type }
}

function pollFiles(project: Project, paths: string[] | null): PollFunction<FileChange[]> {
  return async ({ cursor, signal }) => {
    try {
      if (cursor === null) {
        const { value, backoffS } = await project.listFiles({ limit: 1, signal })
        return { value: [], changed: false, cursor: value?.cursor ?? null, backoffS }
      }
      const { value, backoffS } = await project.status({ paths, since: cursor || null, signal })
      return { value: value.changes, changed: value.changes.length > 0, cursor: value.cursor, backoffS }
    } catch (error) {
      if (!isProblem(error, 'project_not_found')) throw error
      return { value: [], changed: false, cursor: BEGINNING }
    }
  }
}
