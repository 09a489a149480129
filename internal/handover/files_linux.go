package handover

import (
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// maxFiles is how many descriptors one message can bring (SCM_MAX_FD of Linux).
const maxFiles = 253

var filesSpace = unix.CmsgSpace(4 * maxFiles)

// sendFiles sends b and copies of descriptors in one message.
func sendFiles(c *net.UnixConn, b []byte, fds []int) error {
	n, _, err := c.WriteMsgUnix(b, unix.UnixRights(fds...), nil)
	if err == nil && n < len(b) {
		_, err = c.Write(b[n:])
	}
	return err
}

// receiveFiles reads into b, with the descriptors that come with the bytes, which are closed on
// exec.
func receiveFiles(c *net.UnixConn, b, oob []byte) (n int, fds []int, err error) {
	n, size, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil || size == 0 && flags&unix.MSG_CTRUNC == 0 {
		return n, nil, err
	}
	all, err := unix.ParseSocketControlMessage(oob[:size])
	for i := range all {
		if some, bad := unix.ParseUnixRights(&all[i]); bad == nil {
			fds = append(fds, some...)
		}
	}
	if err == nil && flags&unix.MSG_CTRUNC != 0 {
		err = fmt.Errorf("hand-over: descriptors did not arrive; " +
			"the limit of open files is too low")
	}
	if err != nil {
		closeFiles(fds)
		return 0, nil, err
	}
	return n, fds, nil
}

// closeFiles closes descriptors that nobody wants.
func closeFiles(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// monotonic is the time since a moment that is the same for all processes of the machine.
func monotonic() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // never fails for this clock
	return time.Duration(ts.Nano())
}
