// Nothing missed: stock pusher-js 7 and 8, and Laravel Echo, get what was sent while they were away.
// For reverb with REVERB_RESUME_SECONDS; with any other server it changes nothing.
//
//   <script src="https://ws.example.com/resume.js"></script>
//   resume(window.Echo, { gap: channel => loadAnew(channel) })
//
// or import { resume } from 'reverb-resume'. The argument is a Pusher or an Echo. gap is called for
// a channel when the server no longer has all that was missed, or does not know. The result has
// forget(), for a page that gets another user: from now on nothing that was missed is asked for.
// disconnect() forgets too.
;(function (scope) {
  const SUBSCRIBE = 'pusher:subscribe'
  const SUCCEEDED = 'pusher_internal:subscription_succeeded'

  scope.resume = function (from, { gap = () => {} } = {}) {
    const pusher = from.connector?.pusher ?? from
    const connection = pusher.connection
    const positions = new Map() // channel -> { epoch, offset } of the last event handled
    const joined = new Set() // channels that have been joined, and not been left since
    const sockets = [] // what this page was called before, the last 8

    function leave(channel) {
      positions.delete(channel)
      joined.delete(channel)
    }

    const unsubscribe = pusher.unsubscribe
    pusher.unsubscribe = function (channel) {
      leave(channel) // also when there is no connection to send it on
      return unsubscribe.call(this, channel)
    }

    const send = pusher.send_event
    pusher.send_event = function (name, data, channel) {
      if (name === SUBSCRIBE) {
        const former = sockets.filter(id => id !== connection.socket_id)
        data = { ...data, resume: { ...positions.get(data.channel), sockets: former } }
      } else if (name === 'pusher:unsubscribe') {
        leave(data.channel)
      }
      return send.call(this, name, data, channel)
    }

    // It runs after the application's handlers, so a position says that they have run.
    function handled({ data }) {
      let message
      try {
        message = JSON.parse(data)
      } catch {
        return
      }
      const { event, channel, offset, resume } = message ?? {}
      if (!channel || !pusher.channel(channel)?.subscribed) return // left meanwhile, or not joined yet
      if (event === SUCCEEDED) {
        const before = joined.has(channel)
        joined.add(channel)
        if (resume?.recovered) return
        const missed = positions.delete(channel) || (resume && before)
        if (resume) positions.set(channel, { epoch: resume.epoch, offset: resume.offset })
        if (missed) gap(channel)
      } else if (offset && positions.has(channel)) {
        positions.get(channel).offset = offset
      }
    }

    function connected() {
      if (sockets.at(-1) !== connection.socket_id) sockets.push(connection.socket_id)
      if (sockets.length > 8) sockets.shift()
      connection.connection.transport.bind('message', handled)
    }

    const disconnect = pusher.disconnect
    pusher.disconnect = function () {
      positions.clear()
      return disconnect.call(this)
    }

    connection.bind('connected', connected)
    if (connection.state === 'connected') connected()
    return { forget: () => positions.clear() }
  }
})(globalThis)
