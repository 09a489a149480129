package resplink

import "testing"

func duplicate(t *testing.T, fd int) int { return fd }
