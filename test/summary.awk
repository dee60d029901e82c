# Reads the output of `go test -v` and prints what a person needs of it: one line for each package, everything that a
# failed package wrote, the tests that were skipped with their reasons, and the sum. Exits 1 if anything failed.
# Variables: who (one word for the last line), uid.

# What the compiler says comes before everything else, not beside the package that it is about.
/^# / { building = 1 }
/^(===|---|ok|FAIL|\?)[ \t]/ { building = 0 }
building { print; next }

{ lines[++count] = $0 }

# Which test speaks: reasons are printed before the line that says the test was skipped.
/^=== (RUN|NAME|CONT) / { current = $3; next }

/^[ \t]+[^ \t]+\.go:[0-9]+: / {
	text = $0
	sub(/^[ \t]+[^ \t]+\.go:[0-9]+: /, "", text)
	# What a suite has to say although it passed (internal/suite).
	if (sub(/^verdict: /, "", text)) { shown[++shown_lines] = text; next }
	said[current] = text
	next
}

/^[ \t]*--- PASS: / { passed++; next }
/^[ \t]*--- FAIL: / { failed++; next }
/^[ \t]*--- SKIP: / {
	skipped++
	reason = (said[$3] != "") ? said[$3] : "(no reason given)"
	if (reason in skips) skips[reason] = skips[reason] ", " $3
	else skips[reason] = $3
	next
}

# What a TestMain says when it runs no test at all.
/^SKIP: / { skipped++; skips[substr($0, 7)] = "TestMain"; next }

# csi-sanity runs inside one Go test; these two are its own sum.
/Ran [0-9]+ of [0-9]+ Specs/ || /(SUCCESS|FAIL)! -- / {
	gsub(/\033\[[0-9;]*m/, "")
	shown[++shown_lines] = $0
	next
}

/^ok[ \t]/ {
	packages++
	print
	for (i = 1; i <= shown_lines; i++) print "    " shown[i]
	end_of_package($2)
	next
}

# No tests: nothing to say.
/^\?[ \t]/ || /\[no test files\]$/ { end_of_package($2); next }

/^FAIL[ \t]/ {
	packages++
	broken++
	for (i = 1; i <= count; i++) print lines[i]
	end_of_package($2)
	next
}

function end_of_package(name,    reason) {
	for (reason in skips) list[++listed] = name ": " skips[reason] ": " reason
	split("", skips); split("", said); split("", lines)
	count = shown_lines = 0
}

END {
	# What no package line followed: go could not even start, or was killed.
	for (i = 1; i <= count; i++) if (lines[i] != "FAIL") print lines[i]
	if (listed) {
		print ""
		print "skipped because:"
		for (i = 1; i <= listed; i++) print "  " list[i]
	}
	printf "\npackages tested as uid %s: %d, of which failed: %d\n", uid, packages, broken
	printf "%s: %d passed, %d failed, %d skipped\n", who, passed, failed, skipped
	exit (broken || failed || !packages) ? 1 : 0
}
