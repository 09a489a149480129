package envelopes

import (
	"strconv"
	"strings"
)

// buckets is how many groups of topics there are in a Redis Cluster. All nodes must agree on it.
// Larger: topics spread more evenly over the masters. Smaller: fewer keys and questions.
const buckets = 256

// BucketTags are the texts between the prefix and the names of each bucket in a Redis Cluster. The
// part in braces chooses the slot.
func BucketTags() []string {
	tags := make([]string, buckets)
	for b := range tags {
		tags[b] = ":{" + strconv.Itoa(b) + "}"
	}
	return tags
}

// TakenAppID says that an app must not have this ID: names of its topics could be names of the
// nodes. When the last member leaves a channel that is called like a node, the node would hear
// nothing any more. With ":#" in it, the topics of users could not be told from those of others.
func TakenAppID(id string) bool { return id == "node" || id == "all" || strings.Contains(id, ":#") }
