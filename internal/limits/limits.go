// Package limits asks the operating system how many descriptors the process may
// have open.
package limits
