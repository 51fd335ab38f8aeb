from premblyd.cli import main

main()
