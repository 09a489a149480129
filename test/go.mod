module reverb/test

go 1.26.0
