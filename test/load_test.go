package test

func runHelper() bool { return false }
