"""Worker processes: started, asked, ended; what they run and what crashes in them stays there."""
