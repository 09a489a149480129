/** What resume() is given beside the client. */
export interface ResumeOptions {
  /** Called for a channel when the server no longer has all that was missed, or does not know. */
  gap?: (channel: string) => void
}

/** What resume() returns. */
export interface Resumed {
  /** Nothing that was missed is asked for any more: for a page that gets another user. */
  forget(): void
}

/** Makes a Pusher (pusher-js 7 or 8) or an Echo (Laravel Echo) get what it misses. */
export function resume(from: object, options?: ResumeOptions): Resumed
